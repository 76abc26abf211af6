// Evaluated in the page: what is wrong with the parts of it that are visible now.
() => {
  const problems = [];
  const tell = (element, text) => problems.push(`${element.outerHTML.slice(0, 90)}: ${text}`);

  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, at) => value * a + below[at] * (1 - a));
  const background = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(rgba(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => (value / 255 <= 0.04045 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const opacity = (element) => (element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1);
  const visible = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });

  let checked = 0;
  for (const element of document.body.querySelectorAll("*")) {
    if (!visible(element)) continue;
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const field = element.matches("input:not([type=checkbox]), select");
    if (!own && !field) continue;
    checked++;
    const below = background(element);
    const check = (color, what) => {
      const [r, g, b, a] = rgba(color);
      const ratio = contrast(over([r, g, b, a * opacity(element)], below), below);
      if (ratio < 4.5) tell(element, `${what} has a contrast of ${ratio.toFixed(2)}`);
    };
    check(getComputedStyle(element).color, "the text");
    if (element.placeholder) check(getComputedStyle(element, "::placeholder").color, "the placeholder");
  }
  if (!checked) problems.push("there is no text");

  const named = "button, input, select, [role=tab], [role=listbox], [role=option], [role=meter], [role=tabpanel], [role=log]";
  for (const element of document.querySelectorAll(named)) {
    if (!visible(element)) continue;
    const by = element.getAttribute("aria-labelledby");
    const name = element.ariaLabel || (by && document.getElementById(by)?.textContent) ||
      [...(element.labels ?? [])].map((label) => label.textContent).join(" ") || element.textContent;
    if (!name.trim() || (element.matches("input, select") && name === element.value)) tell(element, "has no name");
  }
  for (const element of document.querySelectorAll("[aria-controls], [aria-labelledby], [aria-activedescendant]")) {
    for (const attribute of ["aria-controls", "aria-labelledby", "aria-activedescendant"]) {
      const id = element.getAttribute(attribute);
      if (id && !document.getElementById(id)) tell(element, `${attribute} points to nothing`);
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) problems.push(`two elements are called ${id}`);
  for (const element of document.querySelectorAll("[role=log], [role=status], [role=alert]")) {
    if (element.ariaLive === "off") tell(element, "is not announced");
  }
  if (document.documentElement.scrollWidth > innerWidth) problems.push("the page scrolls sideways");
  for (const element of document.querySelectorAll("main, header, footer, .views > *, #timeline, li, button, select, input, .panel b")) {
    if (!visible(element)) continue;
    const { left, right } = element.getBoundingClientRect();
    if (left < -0.5 || right > innerWidth + 0.5) tell(element, "is not within the window's width");
  }
  return problems;
};
