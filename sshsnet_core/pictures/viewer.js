// The viewer's front end. The model's traits are the state; Python answers each change with one message: the picture,
// the labels under its pixels, and the scores. The base class sends one change at a time and merges those that wait, so
// that dragging never queues up.

const ERRORS = { missed: "missed", invented: "invented", name: "wrong name" };
const KEYS = "Keys, on the picture: ← → slice, ↑ ↓ case. Click a structure to see it alone, again to see all.";

/** An element of this class with these attributes and children. */
function element(tag, className, attributes = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A control under a caption; `label` is also what a screen reader says. */
function captioned(label, control, ...after) {
  control.setAttribute("aria-label", label);
  return element("label", "sshsnet-control", {}, element("span", "", {}, label), control, ...after);
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map((name) => element("option", "", { value: name }, name || "nothing")));
  select.value = chosen;
}

async function inflate(buffer) {
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function render({ model, el }) {
  const structures = model.get("structures");
  const nameOf = Object.fromEntries(structures.map((s) => [s.label, s.name]));
  let frame = null; // what the last message brought
  let latest = 0;

  const change = (values) => {
    const same = ([name, value]) => JSON.stringify(model.get(name)) === JSON.stringify(value);
    if (Object.entries(values).every(same)) return;
    wait();
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
    sync();
  };

  // Dimmed until the picture comes; not for ever, because none comes where nothing is new in the end.
  let waiting = 0;
  const wait = () => {
    root.classList.add("sshsnet-waiting");
    clearTimeout(waiting);
    waiting = setTimeout(() => root.classList.remove("sshsnet-waiting"), 5000);
  };

  // --- controls
  const select = (onChange) => {
    const made = element("select");
    made.addEventListener("change", () => onChange(made.value));
    return made;
  };
  const slider = (attributes, onInput) => {
    const made = element("input", "", { type: "range", ...attributes });
    made.addEventListener("input", () => onInput(Number(made.value)));
    return made;
  };
  const box = (onChange) => {
    const made = element("input", "", { type: "checkbox" });
    made.addEventListener("change", () => onChange(made.checked));
    return made;
  };
  const caseSelect = select((value) => change({ case: value }));
  const panelSelects = [0, 1, 2].map(() => select(() => change({ panels: chosenPanels() })));
  const modeSelect = select((value) => change({ mode: value }));
  const sliceSlider = slider({ min: 0, step: 1 }, (value) => change({ index: value }));
  const sliceText = element("output", "sshsnet-number");
  const opacitySlider = slider({ min: 0, max: 1, step: 0.05 }, (value) => change({ opacity: value }));
  const opacityText = element("output", "sshsnet-number");
  const outlinesBox = box((checked) => change({ outlines: checked }));
  const namesBox = box((checked) => change({ names: checked }));
  const chosenPanels = () => panelSelects.map((s) => s.value).filter((name) => name);

  // --- picture
  const picture = element("canvas", "sshsnet-picture", { role: "application", tabindex: 0, width: 640, height: 400 });
  const hover = element("div", "sshsnet-hover", { "aria-live": "polite" });
  const pen = picture.getContext("2d");

  // --- structures and scores
  const head = element("tr");
  const boxes = {};
  const rows = structures.map((s) => {
    boxes[s.name] = box((checked) => {
      const shown = new Set(model.get("shown"));
      if (checked) shown.add(s.name);
      else shown.delete(s.name);
      change({ shown: structures.map((other) => other.name).filter((name) => shown.has(name)) });
    });
    boxes[s.name].setAttribute("aria-label", s.name);
    const swatch = element("span", "sshsnet-swatch", { style: `background: rgb(${s.colour})` });
    const name = element("th", "", { scope: "row" }, element("label", "", {}, boxes[s.name], swatch, s.name));
    return element("tr", s.kind === "disc" ? "sshsnet-disc" : "", { "data-structure": s.name }, name);
  });
  const foot = element("tr", "sshsnet-mean");
  const note = element("div", "sshsnet-note");
  const groups = { all: () => true, vertebrae: (s) => s.kind === "vertebra", discs: (s) => s.kind === "disc", none: () => false };
  const buttons = Object.entries(groups).map(([name, belongs]) => {
    const made = element("button", "", { type: "button" }, name);
    made.addEventListener("click", () => change({ shown: structures.filter(belongs).map((s) => s.name) }));
    return made;
  });

  function sync() {
    const choices = model.get("choices");
    const panels = model.get("panels");
    const overview = model.get("mode") === "overview";
    fillSelect(caseSelect, model.get("cases"), model.get("case"));
    panelSelects.forEach((s, i) => fillSelect(s, i ? ["", ...choices] : choices, panels[i] ?? ""));
    fillSelect(modeSelect, ["labels", "errors", "overview"], model.get("mode"));
    sliceSlider.max = model.get("slices") - 1;
    sliceSlider.value = model.get("index");
    sliceText.textContent = `${model.get("index") + 1} of ${model.get("slices")}`;
    sliceSlider.setAttribute("aria-valuetext", sliceText.textContent);
    opacitySlider.value = model.get("opacity");
    opacityText.textContent = `${Math.round(100 * model.get("opacity"))} %`;
    outlinesBox.checked = model.get("outlines");
    namesBox.checked = model.get("names");
    for (const control of [sliceSlider, opacitySlider, outlinesBox]) control.disabled = overview;
    const shown = new Set(model.get("shown"));
    for (const [name, control] of Object.entries(boxes)) control.checked = shown.has(name);
  }

  function score(value) {
    if (value === undefined) return element("td", "sshsnet-dsc", {}, "–");
    const bar = element("span", "sshsnet-bar", { style: `width: ${100 * value}%` });
    return element("td", "sshsnet-dsc", {}, bar, element("span", "", {}, value.toFixed(2)));
  }

  function showScores() {
    const scored = frame.panels.filter((panel) => panel.dsc);
    head.replaceChildren(element("th", "", { scope: "col" }, scored.length ? "DSC, whole volume" : "structure"));
    head.append(...scored.map((panel) => element("th", "", { scope: "col" }, panel.name)));
    rows.forEach((row, i) => row.replaceChildren(row.firstChild, ...scored.map((p) => score(p.dsc[structures[i].name]))));
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    foot.replaceChildren(element("th", "", { scope: "row" }, scored.length ? "mean" : ""));
    foot.append(...scored.map((panel) => score(Object.keys(panel.dsc).length ? mean(Object.values(panel.dsc)) : undefined)));
    note.textContent = frame.has_truth
      ? scored.length ? "–: in neither. 0.00: missed, or invented." : ""
      : "No truth for this case: no DSC, no errors.";
  }

  // --- the pointer
  /** Where the pointer is: the panel's number, and the pixel of its plane; null between panels. */
  function place(event) {
    if (!frame) return null;
    const bounds = picture.getBoundingClientRect();
    const x = ((event.clientX - bounds.left) / bounds.width) * picture.width;
    const y = ((event.clientY - bounds.top) / bounds.height) * picture.height;
    const [, height, width] = frame.shape;
    const panel = frame.panels.findIndex(({ box: [l, t, w, h] }) => x >= l && x < l + w && y >= t && y < t + h);
    if (panel < 0) return null;
    const [left, top, w, h] = frame.panels[panel].box;
    return { panel, row: Math.floor(((y - top) / h) * height), column: Math.floor(((x - left) / w) * width) };
  }

  function labelAt(plane, { row, column }) {
    const [, height, width] = frame.shape;
    return frame.planes[(plane * height + row) * width + column];
  }

  function describe(at) {
    const { name } = frame.panels[at.panel];
    const text = (number) => nameOf[number] ?? "background";
    const label = labelAt(at.panel, at);
    if (!frame.compared || name === "truth") return `${name}: ${text(label)}`;
    const truth = labelAt(frame.panels.length, at);
    if (name === "image only") return `truth: ${text(truth)}`;
    const error = label === truth ? "" : !label ? ERRORS.missed : !truth ? ERRORS.invented : ERRORS.name;
    return `${name}: ${text(label)} · truth: ${text(truth)}${error && ` (${error})`}`;
  }

  function paint(at) {
    pen.drawImage(frame.bitmap, 0, 0);
    if (!at || frame.panels.length < 2) return;
    // The same place in the other panels.
    const [, height, width] = frame.shape;
    frame.panels.forEach(({ box: [left, top, w, h] }, panel) => {
      if (panel === at.panel) return;
      const x = left + ((at.column + 0.5) / width) * w;
      const y = top + ((at.row + 0.5) / height) * h;
      for (const [style, thickness] of [["black", 5], ["yellow", 2]]) {
        pen.strokeStyle = style;
        pen.lineWidth = thickness;
        pen.beginPath();
        pen.arc(x, y, 8, 0, 2 * Math.PI);
        pen.stroke();
      }
    });
  }

  let pointer = null; // the last mouse event over the picture
  function point() {
    const at = pointer && place(pointer);
    if (frame) paint(at);
    hover.textContent = at ? describe(at) : "Point at a structure to read its name.";
  }
  picture.addEventListener("mousemove", (event) => { pointer = event; point(); });
  picture.addEventListener("mouseleave", () => { pointer = null; point(); });
  picture.addEventListener("click", (event) => {
    const at = place(event);
    if (!at) return;
    const name = nameOf[labelAt(at.panel, at)] ?? (frame.compared && nameOf[labelAt(frame.panels.length, at)]);
    const shown = model.get("shown");
    const alone = shown.length === 1 && shown[0] === name;
    change({ shown: name && !alone ? [name] : structures.map((s) => s.name) });
  });
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    // With another key they are the browser's.
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
    const cases = model.get("cases");
    const next = cases[within(cases.indexOf(model.get("case")) + step[1], cases.length)];
    if (next !== model.get("case")) change({ case: next });
    if (step[0] && model.get("mode") !== "overview") change({ index: within(model.get("index") + step[0], model.get("slices")) });
  });

  // --- messages
  async function receive(content, buffers) {
    const number = ++latest;
    const [bitmap, planes] = await Promise.all([
      createImageBitmap(new Blob([buffers[0]], { type: "image/jpeg" })),
      inflate(buffers[1]),
    ]);
    if (number !== latest) return; // a newer one came meanwhile
    root.classList.remove("sshsnet-waiting");
    frame = { ...content, bitmap, planes };
    if (picture.width !== bitmap.width) picture.width = bitmap.width;
    if (picture.height !== bitmap.height) picture.height = bitmap.height;
    const what = frame.panels.map((panel) => panel.name).join(", ");
    picture.setAttribute("aria-label", `${model.get("case")}, ${model.get("mode")}: ${what}`);
    picture.dataset.index = model.get("index");
    picture.dataset.frames = Number(picture.dataset.frames ?? 0) + 1;
    showScores();
    point();
  }

  // JupyterLab's own shortcuts would take the arrow keys.
  const root = element(
    "div", "sshsnet-viewer", { "data-lm-suppress-shortcuts": "true" },
    element("div", "sshsnet-controls", {},
      captioned("case", caseSelect), ...panelSelects.map((s, i) => captioned(`labels ${i + 1}`, s)),
      captioned("mode", modeSelect)),
    element("div", "sshsnet-controls", {},
      captioned("slice", sliceSlider, sliceText), captioned("opacity", opacitySlider, opacityText),
      captioned("truth outlines", outlinesBox), captioned("names", namesBox)),
    element("div", "sshsnet-stage", {},
      element("div", "sshsnet-light", {}, picture, hover, element("div", "sshsnet-note", {}, KEYS)),
      element("div", "sshsnet-side", {},
        element("div", "sshsnet-groups", {}, ...buttons),
        element("table", "", {}, element("thead", "", {}, head), element("tbody", "", {}, ...rows), element("tfoot", "", {}, foot)),
        note)),
  );
  el.append(root);
  sync();
  hover.textContent = "Waiting for the kernel; in a stored notebook, run this cell again.";
  model.on("change", sync);
  model.on("msg:custom", receive);
  model.send({});
  return () => {
    model.off("change", sync);
    model.off("msg:custom", receive);
  };
}

export default { render };
