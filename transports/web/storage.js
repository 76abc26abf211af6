// What the browser keeps for the page's next visit; where it keeps nothing, nothing is lost but that.

export function recall(name) {
  try {
    return localStorage.getItem(`bargein.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`bargein.${name}`, value);
  } catch {
    // A private window, or storage that is full or forbidden.
  }
}
