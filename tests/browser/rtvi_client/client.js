// An application of Pipecat's client that notes every event and leaves the rest to the test.

import { PipecatClient, RTVIEvent } from "@pipecat-ai/client-js";
import { SmallWebRTCTransport, WavMediaManager } from "@pipecat-ai/small-webrtc-transport";
import { WavMediaManager as SocketMediaManager, WebSocketTransport } from "@pipecat-ai/websocket-transport";

window.events = []; // [name, first argument as JSON], in order

const bySocket = location.hash === "#websocket";
const transport = bySocket
  ? new WebSocketTransport({ mediaManager: new SocketMediaManager(512, 16000) })
  : new SmallWebRTCTransport({ mediaManager: new WavMediaManager() });
const server = bySocket
  ? { wsUrl: `ws://${location.host}/ws/rtvi` }
  : { webrtcRequestParams: { endpoint: "/api/offer" } };
const client = new PipecatClient({ transport, enableMic: true, enableCam: false });

for (const name of new Set(Object.values(RTVIEvent))) {
  client.on(name, (data) => window.events.push([name, plain(data)]));
}
client.on(RTVIEvent.TrackStarted, (track, participant) => {
  if (participant?.local) return;
  const audio = document.body.appendChild(new Audio());
  audio.srcObject = new MediaStream([track]);
  audio.play();
});

window.client = client;
window.connect = () => client.connect(server);

/** Resolves with what the promise resolves with, or `{ rejected }`: rejections are messages here, no Errors. */
window.outcome = (promise) => promise.then((value) => ({ value }), (why) => ({ rejected: plain(why.data ?? why.message) }));

function plain(data) {
  return data instanceof MediaStreamTrack ? data.kind : JSON.parse(JSON.stringify(data ?? null));
}
