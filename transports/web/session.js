// One conversation with the server: WebRTC audio both ways, RTVI messages over the data channel.

const PING_MS = 2000; // the server gives up a client it has not heard for 10 s
const PLAYOUT_MS = 200; // how often the playout delay is reported while the bot speaks
const CONNECT_MS = 15000;
const GATHER_MS = 1000; // host candidates take a few ms; what takes longer is sent on when it is there
const RTVI_VERSION = "2.2.0";

/** Why a session could not start or ended; `kind` says which message to show. */
export class SessionError extends Error {
  constructor(kind, message = "") {
    super(message);
    this.kind = kind;
  }
}

/** STUN and TURN servers that the bot wants used, with a login each time anew; mostly there are none. */
export async function findIceServers() {
  const found = await fetch("api/ice-servers", { method: "POST" }).then((response) => (response.ok ? response.json() : {}), () => ({}));
  return found.iceServers ?? [];
}

function post(method, body) {
  return fetch("api/offer", {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(CONNECT_MS),
  });
}

/**
 * Events: "message" (detail: an RTVI message), "ended" (detail: why the server went, or null after close()).
 */
export class Session extends EventTarget {
  #peer;
  #channel;
  #audio;
  #microphone;
  #timers = [];
  #over = false;
  #jitter = { delay: 0, count: 0 };
  #unmute = 0;
  #sent = 0;
  #asked = new Map(); // how to settle each request that has no response yet, by its id
  #sender = null;

  /** `audio`: the element that plays the bot. `microphone`: a MediaStream, or null to type only. `iceServers`: as `findIceServers` found them. */
  constructor(audio, microphone, iceServers) {
    super();
    this.#peer = new RTCPeerConnection({ iceServers });
    this.#channel = this.#peer.createDataChannel("chat", { ordered: true });
    this.#audio = audio;
    this.#microphone = microphone;
  }

  /** Resolves when the bot is ready; throws a SessionError. */
  async connect() {
    const transceiver = this.#peer.addTransceiver("audio", {
      direction: this.#microphone ? "sendrecv" : "recvonly",
    });
    this.#sender = transceiver.sender;
    if (this.#microphone) await this.useMicrophone(this.#microphone);
    this.#peer.ontrack = ({ track }) => {
      this.#audio.srcObject = new MediaStream([track]);
      this.#audio.muted = false;
    };
    this.#peer.onconnectionstatechange = () => {
      const state = this.#peer.connectionState;
      if (state === "failed" || state === "closed") this.#end(state);
      if (state === "disconnected") this.#after(3000, () => this.#peer.connectionState !== "connected" && this.#end(state));
    };
    const ready = new Promise((resolve, reject) => {
      this.#channel.onopen = () => {
        this.send("client-ready", { version: RTVI_VERSION, about: { library: "bargein-page" } });
        this.#every(PING_MS, () => this.#sendText(`ping: ${Date.now()}`));
        this.#every(PLAYOUT_MS, () => this.#reportPlayout());
      };
      this.#channel.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (this.#settle(message)) return;
        if (message.type === "bot-ready") resolve();
        this.dispatchEvent(new CustomEvent("message", { detail: message }));
      };
      this.#channel.onclose = () => this.#end("channel closed");
      this.addEventListener("ended", ({ detail }) => reject(new SessionError("unreachable", detail)));
      this.#after(CONNECT_MS, () => reject(new SessionError("unreachable", "no answer in time")));
    });
    ready.catch(() => {});
    await this.#peer.setLocalDescription();
    await this.#gathered();
    const offered = this.#offer();
    this.#peer.onicecandidate = ({ candidate }) => candidate && this.#sendOn(candidate, offered);
    const answer = await offered;
    if (this.#over) throw new SessionError("cancelled");
    await this.#peer.setRemoteDescription({ type: answer.type, sdp: answer.sdp });
    await ready;
    this.speaking = false;
  }

  /** Send an RTVI message; returns its id. */
  send(type, data = {}) {
    const id = String(++this.#sent);
    this.#sendText(JSON.stringify({ label: "rtvi-ai", type, id, data }));
    return id;
  }

  /** Ask the bot's application for something; resolves to its response, throws what it says is wrong. */
  request(t, d = {}) {
    return new Promise((resolve, reject) => this.#asked.set(this.send("client-message", { t, d }), { resolve, reject }));
  }

  /** Send what this microphone hears instead. */
  async useMicrophone(stream) {
    await this.#sender.replaceTrack(stream.getAudioTracks()[0]);
  }

  /** Ask for an interruption, and be quiet at once: the server's answer and the audio under way take a moment. */
  interrupt(level, reason) {
    this.quiet(1000);
    this.send("client-message", { t: "interrupt", d: { level, reason } });
  }

  /** Drop what is still in the jitter buffer: mute for as long as it holds. */
  quiet(ms = this.delay + 60) {
    this.#audio.muted = true;
    clearTimeout(this.#unmute);
    this.#unmute = setTimeout(() => (this.#audio.muted = false), ms);
  }

  /** Milliseconds from the server's sending a sample to its being played, as last measured; a guess before. */
  delay = 150;

  /** Whether the bot speaks: only then is the playout delay worth reporting. */
  speaking = false;

  close() {
    if (this.#over) return;
    this.send("disconnect-bot");
    this.#end(null);
  }

  /** Whether a message is the response to a request; it is settled then. */
  #settle({ type, id, data }) {
    const asked = this.#asked.get(id);
    if (!asked || !["server-response", "error-response"].includes(type)) return false;
    this.#asked.delete(id);
    if (type === "server-response") asked.resolve(data.d);
    else asked.reject(new Error(data.error));
    return true;
  }

  async #gathered() {
    if (this.#peer.iceGatheringState === "complete") return;
    await new Promise((resolve) => {
      this.#peer.onicegatheringstatechange = () => this.#peer.iceGatheringState === "complete" && resolve();
      this.#after(GATHER_MS, resolve);
    });
  }

  async #offer() {
    const { type, sdp } = this.#peer.localDescription;
    let response;
    try {
      response = await post("POST", { type, sdp });
    } catch (error) {
      throw new SessionError("unreachable", error.message);
    }
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body;
    throw new SessionError(response.status === 503 ? "busy" : "refused", body.message ?? `HTTP ${response.status}`);
  }

  async #sendOn({ candidate, sdpMid, sdpMLineIndex }, offered) {
    try {
      const { pc_id } = await offered;
      await post("PATCH", { pc_id, candidates: [{ candidate, sdp_mid: sdpMid, sdp_mline_index: sdpMLineIndex }] });
    } catch {
      // Those that were found sooner may do.
    }
  }

  async #reportPlayout() {
    if (!this.speaking) return;
    let trip = 0;
    for (const stat of (await this.#peer.getStats()).values()) {
      if (stat.type === "inbound-rtp" && stat.kind === "audio") {
        const count = stat.jitterBufferEmittedCount - this.#jitter.count;
        if (count > 0) this.delay = (1000 * (stat.jitterBufferDelay - this.#jitter.delay)) / count;
        this.#jitter = { delay: stat.jitterBufferDelay, count: stat.jitterBufferEmittedCount };
      } else if (stat.type === "candidate-pair" && stat.nominated) {
        trip = 1000 * (stat.currentRoundTripTime ?? 0);
      }
    }
    if (this.speaking) this.send("client-message", { t: "playout", d: { delay_ms: Math.round(this.delay + trip / 2) } });
  }

  #sendText(text) {
    if (this.#channel.readyState === "open") this.#channel.send(text);
  }

  #every(ms, action) {
    const timer = setInterval(action, ms);
    this.#timers.push(() => clearInterval(timer));
  }

  #after(ms, action) {
    const timer = setTimeout(action, ms);
    this.#timers.push(() => clearTimeout(timer));
  }

  #end(reason) {
    if (this.#over) return;
    this.#over = true;
    for (const cancel of this.#timers) cancel();
    clearTimeout(this.#unmute);
    for (const { reject } of this.#asked.values()) reject(new Error("the session has ended"));
    this.#audio.srcObject = null;
    // The goodbye must leave before the channel closes.
    if (reason === null && this.#channel.readyState === "open") setTimeout(() => this.#peer.close(), 50);
    else this.#peer.close();
    this.dispatchEvent(new CustomEvent("ended", { detail: reason }));
  }
}
