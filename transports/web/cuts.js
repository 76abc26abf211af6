// Which answers are over. Data about them may still be under way; it comes too late to change anything.

export class Cuts {
  #ended = 0; // the number of the last answer that was ended
  #silenced = 0; // of the last one whose voice was
  #spared = new Set(); // ids of those that no interruption ends

  started(id, interruptible) {
    if (!interruptible) this.#spared.add(id);
  }

  /** An interruption cut these answers. */
  cut(level, ids) {
    const last = Math.max(0, ...ids.map(number));
    if (level === "full") this.#ended = Math.max(this.#ended, last);
    this.#silenced = Math.max(this.#silenced, last);
  }

  /** Nothing of this answer or its text counts any more. */
  ended(id) {
    return number(id) <= this.#ended && !this.#spared.has(id);
  }

  /** Nothing of its voice does. */
  silenced(id) {
    return number(id) <= this.#silenced && !this.#spared.has(id);
  }
}

/** Answers are called r1, r2 and so on; a message about none compares as false. */
function number(id) {
  return Number(id?.slice(1));
}
