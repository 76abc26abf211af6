// Injected before the page's own scripts: keeps hold of its microphone, its peer connection and its remote
// track, and measures their level on one clock.
(() => {
  const kept = (window.__kept = { peers: [], microphone: null, remote: null });

  const Peer = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Peer {
    constructor(...args) {
      super(...args);
      kept.peers.push(this);
      this.addEventListener("track", ({ track }) => (kept.remote = track));
    }
  };

  if (navigator.mediaDevices) {
    const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (constraints) => (kept.microphone = await getUserMedia(constraints));
  }

  const { get, set } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "volume");
  Object.defineProperty(HTMLMediaElement.prototype, "volume", {
    get,
    set(volume) {
      set.call(this, volume);
      window.__mark?.(`volume ${volume.toFixed(2)}`);
    },
  });

  // Peak of each input in each block of 128 samples. A block may be missing at start-up, so every one
  // carries its currentFrame.
  const worklet = `
    registerProcessor("levels", class extends AudioWorkletProcessor {
      rows = [];
      process(inputs) {
        const row = [currentFrame];
        for (const [channel] of inputs) {
          let peak = 0;
          if (channel) for (const sample of channel) peak = Math.max(peak, Math.abs(sample));
          row.push(peak);
        }
        this.rows.push(row);
        if (this.rows.length === 8) {
          this.port.postMessage(this.rows);
          this.rows = [];
        }
        return true;
      }
    });`;

  // rows: [frame, microphone peak, remote peak]. Changes of the voice's volume, and whatever
  // a test marks by window.__mark(name), are put on the same clock.
  window.__measure = async () => {
    const context = new AudioContext();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" })));
    const node = new AudioWorkletNode(context, "levels", { numberOfInputs: 2 });
    const rows = [];
    const marks = [];
    node.port.onmessage = ({ data }) => rows.push(...data);
    if (kept.microphone) context.createMediaStreamSource(kept.microphone).connect(node, 0, 0);
    context.createMediaStreamSource(new MediaStream([kept.remote])).connect(node, 0, 1);
    node.connect(context.destination);
    window.__mark = (name) => marks.push([name, context.currentTime * context.sampleRate, Date.now() / 1000]);
    window.__measured = () => ({ rate: context.sampleRate, rows, marks });
    window.__mark("start");
  };
})();
