import { meetBot } from "./bot.js";
import { Cuts } from "./cuts.js";
import { Devices } from "./devices.js";
import { Duck } from "./duck.js";
import { Interruptions } from "./interruptions.js";
import { wireKeys } from "./keys.js";
import { Meter } from "./meter.js";
import { Notices } from "./notices.js";
import { PolicyForm } from "./policies.js";
import { findIceServers, Session, SessionError } from "./session.js";
import { Tabs } from "./tabs.js";
import { wireTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { TimelineView } from "./timeline_view.js";
import { Transcript } from "./transcript.js";
import { Turns } from "./turns.js";

const $ = (id) => document.getElementById(id);

const STATES = { listening: "Listening", thinking: "Thinking", speaking: "Speaking", held: "Listening" };
const TOUCH = matchMedia("(pointer: coarse)");
const PHASES = { idle: "Not connected", connecting: "Connecting" };

const transcript = new Transcript($("transcript"));
const timeline = new Timeline(new TimelineView($("timeline")));
const turns = new Turns($("turns"));
const interruptions = new Interruptions($("interruptions"));
const policies = new PolicyForm($("policies"));
const notices = new Notices($("notice"), () => connect(false));
const devices = new Devices({ microphone: $("microphone"), speaker: $("speaker") }, $("voice"), {
  changed: changeMicrophone,
  failed: () => notices.show("device"),
});

let attempt = 0; // counts presses of Connect and of its opposites: what an older one awaited is dropped
let session = null;
let meter = null;
let microphone = null;
let duck = null;
let cuts = new Cuts();
let stateOf = null; // the id of the answer that the state is about
let farewell = ""; // why the bot is about to end the conversation, if it says so

function setPhase(phase) {
  document.body.dataset.phase = phase;
  const connected = phase === "connected";
  $("connect").textContent = { idle: "Connect", connecting: "Cancel", connected: "Disconnect" }[phase];
  $("connect").classList.toggle("primary", phase === "idle");
  $("text").disabled = $("send").disabled = !connected;
  if (phase !== "idle") notices.hide();
  const fresh = phase === "idle" && !$("transcript").children.length;
  document.body.toggleAttribute("data-fresh", fresh);
  $("welcome").hidden = !fresh;
  $("transcript").hidden = fresh;
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

function showLevel(level) {
  $("meter").style.setProperty("--level", level.toFixed(3));
  $("meter").ariaValueNow = String(Math.round(level * 100));
}

async function openMicrophone() {
  if (!navigator.mediaDevices) throw new SessionError("insecure");
  try {
    return await devices.openMicrophone();
  } catch (error) {
    const kind = { NotFoundError: "no-microphone", NotAllowedError: "permission" }[error.name] ?? "in-use";
    throw new SessionError(kind, error.message);
  }
}

/** From now on this is the microphone; null is none. */
function useMicrophone(stream) {
  meter?.close();
  stopTracks(microphone);
  meter = duck = null;
  microphone = stream;
  showLevel(0);
  if (!stream) return;
  meter = new Meter(stream, showLevel);
  duck = new Duck($("voice"));
  duck.speaking = sounding();
  meter.listen(duck.hear.bind(duck)).catch(() => {}); // no server: connecting will tell
  stream.getAudioTracks()[0].onended = () => notices.show("unplugged");
}

async function changeMicrophone() {
  if (!microphone) return; // used when it is opened
  const mine = attempt;
  try {
    const stream = await openMicrophone();
    if (mine !== attempt) return stopTracks(stream);
    useMicrophone(stream);
    await session.useMicrophone(stream);
    notices.hide();
  } catch {
    if (mine === attempt) notices.show("device"); // the conversation goes on with the one before
  }
}

async function connect(withMicrophone) {
  const mine = ++attempt;
  setPhase("connecting");
  try {
    const { hears } = await meetBot(); // it may be another one since the page was loaded
    if (mine !== attempt) return;
    const [stream, iceServers] = await Promise.all([withMicrophone && hears ? openMicrophone() : null, findIceServers()]);
    if (mine !== attempt) return stopTracks(stream);
    useMicrophone(stream);
    await devices.useSpeaker().catch(() => notices.show("device"));
    session = new Session($("voice"), stream, iceServers);
    session.addEventListener("message", ({ detail }) => mine === attempt && receive(detail));
    session.addEventListener("ended", ({ detail }) => mine === attempt && ended(detail));
    cuts = new Cuts();
    stateOf = null;
    farewell = "";
    await session.connect();
    if (mine !== attempt) return;
    for (const part of [transcript, turns, interruptions]) part.clear(); // not sooner: it may have failed
    timeline.begin();
    setPhase("connected");
    policies.open((type, data) => session.request(type, data));
    if (!TOUCH.matches) $("text").focus({ preventScroll: true }); // else a keyboard would cover the page
  } catch (error) {
    if (mine !== attempt) return;
    if (!(error instanceof SessionError)) console.error(error);
    disconnect();
    notices.show(error.kind, error.message);
  }
}

function disconnect() {
  attempt++;
  session?.close();
  session = null;
  useMicrophone(null);
  timeline.end();
  policies.close();
  setPhase("idle");
}

function stopTracks(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}

/** The server's end went away: was it the bot that ended, the server, or the network? */
async function ended(reason) {
  if (document.body.dataset.phase !== "connected") return; // connect() reports it
  disconnect();
  const alive = await fetch("healthz", { signal: AbortSignal.timeout(2000) }).then((r) => r.ok, () => false);
  const lost = ["disconnected", "failed"].includes(reason);
  if (!session) notices.show(!alive ? "gone" : lost ? "lost" : "over", farewell);
}

function receive(message) {
  const { type, data } = message;
  const id = data?.response_id;
  if (cuts.ended(id) && type !== "llm-function-call-stopped") return; // a call may outlive its answer
  for (const part of [timeline, turns, interruptions]) part.take(message);
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
    case "error-response":
      return transcript.failed(data.error);
    case "server-message":
      return { state: stateChanged, hold: held, release: released, interruption: interrupted, ending }[data.type]?.(data);
  }
}

function ending({ reason }) {
  farewell = `: ${reason}`;
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
wireKeys({ stop: () => interrupt("full"), stopSpeaking: () => interrupt("speech") });
wireTheme($("theme"));
new Tabs($("tabs"));
addEventListener("pagehide", disconnect);
meetBot();
