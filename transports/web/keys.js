// Keys for both interruptions.

const TYPED_IN = "input:not([type=checkbox]), select, textarea, [contenteditable]";

/** Escape stops everything, anywhere. S stops the voice where it is not a letter that is typed; Alt+S anywhere. */
export function wireKeys({ stop, stopSpeaking }) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey) return;
    const typing = event.target.matches?.(TYPED_IN);
    if (event.key === "Escape") stop();
    else if (event.code === "KeyS" && event.altKey) stopSpeaking();
    else if (event.key.toLowerCase() === "s" && !event.altKey && !typing) stopSpeaking();
    else return;
    event.preventDefault();
  });
}
