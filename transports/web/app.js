import { Cuts } from "./cuts.js";
import { Duck } from "./duck.js";
import { Meter } from "./meter.js";
import { Session, SessionError } from "./session.js";
import { Transcript } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const transcript = new Transcript($("transcript"));

const STATES = { listening: "Listening", thinking: "Thinking", speaking: "Speaking", held: "Listening" };
const PHASES = { idle: "Not connected", connecting: "Connecting" };

const NOTICES = {
  "no-microphone": ["No microphone found", "Plug one in and connect again, or go on without: you can type."],
  "permission": ["The microphone is blocked", "Allow it in the browser's site settings and connect again, or go on without: you can type."],
  "in-use": ["The microphone cannot be opened", "Another program may be using it. Close that program and connect again, or go on without: you can type."],
  "unplugged": ["The microphone is gone", "It was unplugged. You can go on by typing, or plug it in and connect again."],
  "insecure": ["No microphone on this address", "Browsers allow it only on https:// and on localhost. You can go on without: type instead."],
  "unreachable": ["The server cannot be reached", "Is it running? Start it and connect again."],
  "gone": ["The server has gone", "The connection was lost. Start the server again if it stopped, then connect again."],
  "over": ["The conversation is over", "The bot has ended it. Connect to begin a new one."],
  "busy": ["All places are taken", ""],
  "refused": ["The server refused the connection", ""],
};

let attempt = 0; // counts presses of Connect and of its opposites: what an older one awaited is dropped
let session = null;
let meter = null;
let microphone = null;
let duck = null;
let cuts = new Cuts();
let stateOf = null; // the id of the answer that the state is about

function setPhase(phase) {
  document.body.dataset.phase = phase;
  const connected = phase === "connected";
  $("connect").textContent = { idle: "Connect", connecting: "Cancel", connected: "Disconnect" }[phase];
  $("connect").classList.toggle("primary", phase === "idle");
  $("text").disabled = $("send").disabled = !connected;
  if (phase !== "idle") {
    $("welcome").hidden = true;
    $("transcript").hidden = false;
    $("notice").hidden = true;
  } else if (!$("transcript").children.length) {
    $("welcome").hidden = false;
    $("transcript").hidden = true;
  }
  setState("listening");
}

function setState(state) {
  const { phase } = document.body.dataset;
  const busy = phase === "connected" && state !== "listening";
  document.body.dataset.state = state;
  const quiet = microphone ? STATES[state] : "Waiting for your message";
  $("status-text").textContent = PHASES[phase] ?? (state === "listening" ? quiet : STATES[state]);
  $("stop").disabled = $("stop-speaking").disabled = !busy;
  if (session) session.speaking = sounding();
  if (duck) duck.speaking = sounding();
}

function sounding() {
  return ["speaking", "held"].includes(document.body.dataset.state);
}

function showNotice(kind, detail = "") {
  const [title, text] = NOTICES[kind];
  $("notice-title").textContent = title;
  $("notice-text").textContent = text || detail;
  $("notice-action").hidden = !["no-microphone", "permission", "in-use", "insecure"].includes(kind);
  $("notice-action").textContent = "Go on without";
  $("notice").dataset.kind = kind;
  $("notice").hidden = false;
}

function showLevel(level) {
  $("meter").style.setProperty("--level", level.toFixed(3));
  $("meter").ariaValueNow = String(Math.round(level * 100));
}

async function openMicrophone() {
  if (!navigator.mediaDevices) throw new SessionError("insecure");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
    });
  } catch (error) {
    const kind = { NotFoundError: "no-microphone", NotAllowedError: "permission" }[error.name] ?? "in-use";
    throw new SessionError(kind, error.message);
  }
}

async function connect(withMicrophone) {
  const mine = ++attempt;
  setPhase("connecting");
  try {
    const stream = withMicrophone ? await openMicrophone() : null;
    if (mine !== attempt) return stopTracks(stream);
    microphone = stream;
    if (stream) {
      meter = new Meter(stream, showLevel);
      duck = new Duck($("voice"));
      meter.listen(duck.hear.bind(duck)).catch(() => {}); // no server: connecting will tell
      stream.getAudioTracks()[0].onended = () => showNotice("unplugged");
    }
    session = new Session($("voice"), stream);
    session.addEventListener("message", ({ detail }) => mine === attempt && receive(detail));
    session.addEventListener("ended", () => mine === attempt && ended());
    transcript.clear();
    cuts = new Cuts();
    stateOf = null;
    await session.connect();
    if (mine !== attempt) return;
    setPhase("connected");
    $("text").focus({ preventScroll: true });
  } catch (error) {
    if (mine !== attempt) return;
    if (!(error instanceof SessionError)) console.error(error);
    disconnect();
    showNotice(NOTICES[error.kind] ? error.kind : "refused", error.message);
  }
}

function disconnect() {
  attempt++;
  session?.close();
  session = null;
  meter?.close();
  meter = null;
  duck = null;
  showLevel(0);
  stopTracks(microphone);
  microphone = null;
  setPhase("idle");
}

function stopTracks(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}

/** The server's end went away: was it the bot that ended, or the server? */
async function ended() {
  if (document.body.dataset.phase !== "connected") return; // connect() reports it
  disconnect();
  const alive = await fetch("healthz", { signal: AbortSignal.timeout(2000) }).then((r) => r.ok, () => false);
  if (!session) showNotice(alive ? "over" : "gone");
}

function receive({ type, data }) {
  const id = data?.response_id;
  if (cuts.ended(id)) return;
  switch (type) {
    case "user-transcription":
      return transcript.userSaid(data.text, data.final);
    case "bot-llm-started":
      cuts.started(id, data.interruptible);
      return transcript.answerStarted(id);
    case "bot-llm-text":
      return transcript.answerText(id, data.text);
    case "bot-llm-stopped":
      return transcript.answerEnded(id);
    case "bot-tts-text":
      return cuts.silenced(id) || transcript.answerHeard(id, data.heard);
    case "error":
      return transcript.failed(data.error);
    case "server-message":
      return { state: stateChanged, hold: held, release: released, interruption: interrupted }[data.type]?.(data);
  }
}

function stateChanged({ state, response_id: id }) {
  if (state === "speaking" && cuts.silenced(id)) return;
  stateOf = id;
  setState(state);
}

function held({ response_id: id }) {
  if (document.body.dataset.state !== "speaking" || cuts.silenced(id)) return;
  setState("held");
  duck?.hold();
}

function released() {
  if (document.body.dataset.state !== "held") return;
  duck?.release();
  setState("speaking");
}

function interrupted(report) {
  cuts.cut(report.level, report.cut);
  const spared = stateOf && !cuts.silenced(stateOf); // the state is about an answer that goes on
  if (!spared || !sounding()) session.quiet();
  if (!spared) setState("listening");
  transcript.interrupted(report);
}

function interrupt(level) {
  if ($("stop").disabled) return;
  session.interrupt(level, "user_clicked_stop");
}

$("connect").onclick = () => (document.body.dataset.phase === "idle" ? connect(true) : disconnect());
$("notice-action").onclick = () => connect(false);
$("stop").onclick = () => interrupt("full");
$("stop-speaking").onclick = () => interrupt("speech");
$("typed").onsubmit = (event) => {
  event.preventDefault();
  const content = $("text").value.trim();
  if (!content || !session) return;
  transcript.userTyped(content);
  session.send("send-text", { content });
  $("text").value = "";
};
document.onkeydown = (event) => {
  if (event.key === "Escape") interrupt("full");
  if (event.altKey && event.code === "KeyS") {
    event.preventDefault();
    interrupt("speech");
  }
};
addEventListener("pagehide", disconnect);
