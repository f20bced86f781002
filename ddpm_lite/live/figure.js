// What every figure has: panels, controls, a prediction, a text that tells the state, play, theme and reduced motion.
import { Panel } from "./draw.js";
import { THEMES, themeOf, watchTheme } from "./theme.js";

// "{mu:.2f}" in a sentence becomes the number with two digits, "{name}" the value itself.
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)(?::\.(\d)f)?\}/g, (_, name, digits) => {
    if (!(name in values)) throw new Error(`the sentence names ${name}, which is not among the numbers`);
    const text = digits === undefined ? String(values[name]) : values[name].toFixed(Number(digits));
    return text.replace(/^-(?=[\d.])/, /[1-9]/.test(text) ? "\u2212" : "");
  });
}

// f, keeping its last result for as long as the arguments are equal as JSON.
export function remember(f) {
  let key, value;
  return (...args) => {
    const now = JSON.stringify(args);
    if (now !== key) [key, value] = [now, f(...args)];
    return value;
  };
}

// The widget of a figure. spec holds
//   panels(data, state, asking) an array of {name, label, aspect, x, y, xlabel, ylabel, ...}, as Panel.begin takes them
//   compute(state, data)        an object with `numbers`, for the sentence, and whatever draw needs; no DOM, so node can run it
//   draw(panels, world, state, data)   panels by name, already begun
//   ask(panels, world, state, data)    optional: drawn in its place until the reader has committed to a prediction
//   handles(world, state, data) optional: [{panel, x, y, label, text, step: [dx, dy], move(x, y) -> a part of the state}]
export function figure(spec) {
  return { spec, render: ({ model, el }) => mount(spec, model, el) };
}

function mount(spec, model, el) {
  const data = model.get("data");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const root = node("div", { class: "dl-figure", role: "group", "aria-label": data.title });
  const status = node("p", { class: "dl-state" });
  const spoken = node("p", { class: "dl-spoken", "aria-live": "polite" });
  const controls = node("div", { class: "dl-controls" });
  const stage = node("div", { class: "dl-panels" });
  let state = { ...data.start, ...model.get("state") };
  let scheduled = 0;
  let speak = 0;
  let stopped = false;
  let asking = Boolean(data.question);

  const views = new Map();
  const inputs = data.controls.map((control) => CONTROLS[control.kind](control, set, { still, root }));
  for (const input of inputs) controls.append(input.element);

  function set(change) {
    state = { ...state, ...change };
    model.set("state", state);
    schedule();
  }

  function schedule() {
    if (!scheduled && !stopped) scheduled = requestAnimationFrame(update);
  }

  function update() {
    scheduled = 0;
    const world = spec.compute(state, data);
    const theme = themeOf(el);
    const colours = THEMES[theme];
    root.style.colorScheme = theme;
    for (const [name, value] of Object.entries(colours)) root.style.setProperty(`--dl-${name}`, value);
    for (const input of inputs) input.show(state);
    paint(world, colours);
    status.textContent = fill(data.sentence, world.numbers);
    model.set("numbers", world.numbers);
    clearTimeout(speak);
    speak = setTimeout(settle, 500);
  }

  function settle() {
    if (!asking) spoken.textContent = status.textContent;
    model.save_changes();
  }

  function paint(world, colours) {
    const wanted = spec.panels(data, state, asking);
    const panels = {};
    for (const each of wanted) if (!views.has(each.name)) views.set(each.name, panelView(each, stage, set, observer));
    for (const [name, view] of views) view.box.hidden = !wanted.some((each) => each.name === name);
    for (const each of wanted) {
      const view = views.get(each.name);
      view.place(each);
      view.panel.begin(each, colours);
      panels[each.name] = view.panel;
    }
    (asking && spec.ask ? spec.ask : spec.draw)(panels, world, state, data);
    const handles = (!asking && spec.handles?.(world, state, data)) || [];
    for (const [name, view] of views) view.handles(handles.filter((handle) => handle.panel === name));
  }

  function fromKernel() {
    state = { ...state, ...model.get("state") };
    schedule();
  }

  const observer = new ResizeObserver(schedule);
  const unwatch = watchTheme(schedule);
  model.on("change:state", fromKernel);
  const rest = node("div", { class: "dl-rest" }, [controls, status]);
  const cover = (on) => {
    asking = on;
    rest.inert = on;
    stage.classList.toggle("dl-covered", on && !spec.ask);
    schedule();
  };
  if (data.question) root.append(prediction(data.question, () => cover(false)));
  root.append(stage, rest, spoken);
  cover(asking);
  el.append(root);
  update();
  return () => {
    stopped = true;
    cancelAnimationFrame(scheduled);
    clearTimeout(speak);
    observer.disconnect();
    unwatch();
    model.off("change:state", fromKernel);
    for (const input of inputs) input.end?.();
  };
}

// One canvas with its draggable handles.
function panelView(each, stage, set, observer) {
  const canvas = node("canvas", { role: "img" });
  const box = node("div", { class: "dl-panel" }, [canvas]);
  const panel = new Panel(canvas);
  const knobs = [];
  stage.append(box);
  observer.observe(canvas);

  function place({ label, aspect = 0.75 }) {
    canvas.setAttribute("aria-label", label);
    canvas.style.aspectRatio = String(1 / aspect);
  }

  function handles(list) {
    while (knobs.length < list.length) knobs.push(handle(box, panel, set));
    while (knobs.length > list.length) knobs.pop().element.remove();
    list.forEach((each, i) => knobs[i].place(each));
  }
  place(each);
  return { box, panel, place, handles };
}

// A knob that a pointer drags and the arrow keys move.
function handle(box, panel, set) {
  const element = node("div", { class: "dl-handle", role: "slider", tabindex: "0" });
  let now;
  box.append(element);

  const at = (event) => {
    const { left, top } = box.getBoundingClientRect();
    return panel.inverse(event.clientX - left, event.clientY - top);
  };
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    element.focus();
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) set(now.move(...at(event)));
  });
  element.addEventListener("keydown", (event) => {
    const [right, up] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
    if (right === undefined) return;
    event.preventDefault();
    const size = event.shiftKey ? 10 : 1;
    const clamp = (v, [low, high]) => Math.min(high, Math.max(low, v));
    const { x, y } = panel;
    set(now.move(clamp(now.x + right * now.step[0] * size, x), clamp(now.y + up * now.step[1] * size, y)));
  });

  function place(next) {
    now = next;
    element.style.left = `${panel.px(now.x)}px`;
    element.style.top = `${panel.py(now.y)}px`;
    const [low, high] = now.step[1] ? panel.y : panel.x;
    const value = now.step[1] ? now.y : now.x;
    const told = { label: now.label, valuetext: now.text, valuenow: value, valuemin: low, valuemax: high };
    for (const [key, text] of Object.entries(told)) element.setAttribute(`aria-${key}`, text);
  }
  return { element, place };
}

// A range input with its name and its value; the base of several controls.
function range({ label, low, high, step }, text, changed) {
  const id = unique();
  const input = node("input", { type: "range", id, min: low, max: high, step });
  const output = node("output", { for: id });
  const element = node("div", { class: "dl-slider" }, [node("label", { for: id }, [label]), input, output]);
  input.addEventListener("input", () => changed(Number(input.value)));
  const show = (value, shown = value) => {
    input.value = value;
    output.textContent = text(shown);
    input.setAttribute("aria-valuetext", text(shown));
  };
  return { element, input, show };
}

const CONTROLS = { slider, stops, choice, presets, clock };

// A number on a range.
function slider(control, set) {
  const text = (value) => fill(control.text, { value });
  const { element, show } = range(control, text, (value) => set({ [control.name]: value }));
  return { element, show: (state) => show(state[control.name]) };
}

// A number out of a list.
function stops(control, set) {
  const { name, label, values } = control;
  const text = (value) => fill(control.text, { value });
  const over = { label, low: 0, high: values.length - 1, step: 1 };
  const { element, show } = range(over, text, (i) => set({ [name]: values[i] }));
  return { element, show: (state) => show(values.indexOf(state[name]), state[name]) };
}

// One of a few.
function choice({ name, label, options }, set) {
  const group = unique();
  const inputs = options.map(([value]) => node("input", { type: "radio", name: group, value }));
  const labels = options.map(([, words], i) => node("label", {}, [inputs[i], node("span", {}, [words])]));
  inputs.forEach((input, i) => input.addEventListener("change", () => set({ [name]: options[i][0] })));
  const element = node("fieldset", { class: "dl-choice" }, [node("legend", {}, [label]), ...labels]);
  return { element, show: (state) => inputs.forEach((input, i) => (input.checked = options[i][0] === state[name])) };
}

// Buttons that set several controls at once.
function presets({ label, options }, set) {
  const buttons = options.map(([words, change]) => {
    const button = node("button", { type: "button" }, [words]);
    button.addEventListener("click", () => set(change));
    return button;
  });
  const element = node("div", { class: "dl-presets", role: "group", "aria-label": label }, [
    node("span", {}, [label]),
    ...buttons,
  ]);
  return { element, show: () => {} };
}

// A slider that plays from one end to the other; it stops out of sight, and jumps to the end under reduced motion.
function clock(control, set, { still, root }) {
  const { name, start, end, step, seconds } = control;
  const text = (value) => fill(control.text, { value });
  const low = Math.min(start, end);
  const over = { label: control.label, low, high: Math.max(start, end), step };
  const { element: bar, input, show } = range(over, text, (value) => {
    pause();
    set({ [name]: value });
  });
  if (end < start) input.style.direction = "rtl"; // the start stands at the left
  const button = node("button", { type: "button", class: "dl-play" });
  const element = node("div", { class: "dl-clock" }, [button, bar]);
  let value = start;
  let frame = 0;
  let before = 0;

  const caption = () => (button.textContent = frame ? "Pause" : still.matches ? "To the end" : "Play");
  function pause() {
    cancelAnimationFrame(frame);
    frame = 0;
    caption();
  }
  function tick(now) {
    const passed = Math.min(Math.max(now - before, 0), 100); // a frame may have begun before the button was pressed
    const moved = value + ((end - start) * passed) / (1000 * seconds);
    const over = end > start ? moved >= end : moved <= end;
    before = now;
    value = over ? end : moved;
    set({ [name]: round(value) });
    if (over) pause();
    else frame = requestAnimationFrame(tick);
  }
  const round = (v) => (v === end ? end : Number((low + Math.round((v - low) / step) * step).toFixed(10)));
  function play() {
    if (value === end) value = start;
    if (still.matches) return set({ [name]: end });
    before = performance.now();
    frame = requestAnimationFrame(tick);
    caption();
  }
  const watcher = new IntersectionObserver(([entry]) => entry.isIntersecting || pause());
  watcher.observe(root);
  button.addEventListener("click", () => (frame ? pause() : play()));
  still.addEventListener("change", pause);
  caption();
  return {
    element,
    show(state) {
      if (!frame) value = state[name];
      show(state[name]);
    },
    end() {
      pause();
      watcher.disconnect();
      still.removeEventListener("change", pause);
    },
  };
}

// The question whose answer the reader commits to; until then the figure does not tell it and its controls are off.
function prediction({ text, options, answer, reply }, answered) {
  const group = unique();
  const inputs = options.map((_, i) => node("input", { type: "radio", name: group, value: i }));
  const labels = options.map((words, i) => node("label", {}, [inputs[i], node("span", {}, [words])]));
  const commit = node("button", { type: "submit", disabled: "" }, ["Commit to this answer"]);
  const skip = node("button", { type: "button", class: "dl-skip" }, ["Skip"]);
  const buttons = node("div", { class: "dl-buttons" }, [commit, skip]);
  const said = node("p", { class: "dl-reply", role: "status" });
  const choices = node("fieldset", {}, [node("legend", {}, [text]), ...labels]);
  const form = node("form", { class: "dl-prediction" }, [choices, buttons, said]);
  const open = (words) => {
    choices.disabled = true;
    buttons.remove();
    said.textContent = words;
    answered();
  };
  for (const input of inputs) input.addEventListener("change", () => (commit.disabled = false));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const picked = inputs.findIndex((input) => input.checked);
    const verdict = picked === answer ? "Yes." : `You said: ${options[picked]}. The answer is: ${options[answer]}.`;
    open(`${verdict} ${reply}`);
  });
  skip.addEventListener("click", () => open(`The answer is: ${options[answer]}. ${reply}`));
  return form;
}

// A name that no other figure of the page has, nor another view of this one.
function unique() {
  return `dl-${Math.random().toString(36).slice(2)}`;
}

// An element with attributes and children.
function node(name, attributes = {}, children = []) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
