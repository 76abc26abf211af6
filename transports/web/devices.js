// Which microphone and which loudspeaker, remembered for the next visit.

import { recall, remember } from "./storage.js";

const SOUND = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
const KINDS = { microphone: "audioinput", speaker: "audiooutput" };

export class Devices {
  #selects;
  #audio;

  /** `selects`: the elements called microphone and speaker. `audio`: the element that plays the bot. `changed`: called when another microphone is wanted, `failed` when a loudspeaker cannot be used. */
  constructor(selects, audio, { changed, failed }) {
    this.#selects = selects;
    this.#audio = audio;
    selects.speaker.closest(".device").hidden = !audio.setSinkId;
    selects.microphone.onchange = () => {
      remember("microphone", selects.microphone.value);
      changed();
    };
    selects.speaker.onchange = () => {
      remember("speaker", selects.speaker.value);
      this.useSpeaker().catch(failed);
    };
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
    this.list();
  }

  /** Open the chosen microphone, or another one if it is gone; throws what `getUserMedia` throws. */
  async openMicrophone() {
    const chosen = recall("microphone");
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: chosen ? { ...SOUND, deviceId: { ideal: chosen } } : SOUND,
    });
    this.list(); // only now they have names
    return stream;
  }

  /** Play on the chosen loudspeaker; throws if that is not possible. */
  async useSpeaker() {
    await this.#audio.setSinkId?.(this.#selects.speaker.value);
  }

  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
    for (const [name, kind] of Object.entries(KINDS)) {
      const known = devices.filter((device) => device.kind === kind && device.deviceId && device.label);
      const select = this.#selects[name];
      const chosen = recall(name);
      const options = known.filter((device) => device.deviceId !== "default");
      select.replaceChildren(new Option("As the system", ""), ...options.map((each) => new Option(each.label, each.deviceId)));
      select.value = options.some((each) => each.deviceId === chosen) ? chosen : "";
      select.disabled = !options.length;
    }
  }
}
