// Shows the live figures of a published page, without a kernel and without a network.
//
// The page holds the state of its widgets as JSON, and a <script> where each figure stands. A figure is an anywidget:
// its state carries the text of an ES module (`_esm`), which draws into an element and talks to a model
// (https://anywidget.dev/en/afm/). Boxes of ipywidgets that hold figures are drawn too. A page that shows any other
// widget loads the full manager of ipywidgets. The still picture gives way when the figure starts, and stays if that fails.
(() => {
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const BOXES = { HBoxModel: "row", VBoxModel: "column", BoxModel: "row" };
  const manager = new URL("../jupyter-widgets/", document.currentScript.src).href;
  const models = new Map(); // id -> Model
  const modules = new Map(); // text of an _esm -> promise of its default export
  const bindings = new Map(); // Model -> promise of { widget, exports }
  const over = new AbortController(); // aborted when the reader leaves the page

  // ---- Models: the traits of a widget, with Backbone's events.
  class Model {
    constructor({ model_name, state, buffers = [] }) {
      Object.assign(this, { name: model_name, traits: state, listeners: [] });
      for (const { path, data } of buffers) put(this.traits, path, bytes(data));
    }

    set(name, value) {
      const changes = typeof name === "object" ? name : { [name]: value };
      const changed = Object.keys(changes).filter((key) => !same(this.traits[key], changes[key]));
      for (const key of changed) this.traits[key] = changes[key];
      for (const key of changed) this.emit(`change:${key}`, this.traits[key]);
      if (changed.length) this.emit("change");
    }

    emit(event, ...args) {
      for (const each of [...this.listeners]) if (each.event === event) each.callback(this.proxy(each.owner), ...args);
    }

    // What a figure sees of the model. `off()` takes back only what was registered with the same owner.
    proxy(owner) {
      const split = (events) => events.trim().split(/\s+/);
      return {
        get: (name) => this.traits[name],
        set: (name, value) => this.set(name, value),
        save_changes: () => {}, // no kernel listens; set has told every view already
        send: () => console.warn("live figure: a message for a kernel; this page has none"),
        on: (events, callback) => {
          for (const event of split(events)) this.listeners.push({ event, callback, owner });
        },
        off: (events, callback) => {
          const named = events ? split(events) : [];
          const meant = (each) => each.owner === owner && (!events || named.includes(each.event))
            && (!callback || each.callback === callback);
          this.listeners = this.listeners.filter((each) => !meant(each));
        },
        widget_manager: { get_model: async (id) => find(id).proxy(owner) },
      };
    }
  }

  const bytes = (base64) => new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);

  function put(tree, path, value) {
    const parent = path.slice(0, -1).reduce((node, key) => node[key], tree);
    parent[path.at(-1)] = value;
  }

  // Equal as plain data; binary data is equal to itself only.
  function same(a, b) {
    if (Object.is(a, b)) return true;
    const plain = (value) => value && typeof value === "object" && !ArrayBuffer.isView(value);
    if (!plain(a) || !plain(b)) return false;
    const keys = Object.keys(a);
    return Array.isArray(a) === Array.isArray(b) && keys.length === Object.keys(b).length
      && keys.every((key) => key in b && same(a[key], b[key]));
  }

  function find(reference) {
    const model = models.get(reference.replace(/^(IPY_MODEL_|anywidget:)/, ""));
    if (!model) throw new Error(`the page has no model ${reference}`);
    return model;
  }

  // ---- anywidget: one module for each text, one `initialize` for each model, one `render` for each view.
  function widgetOf(text) {
    if (!modules.has(text)) modules.set(text, load(text));
    return modules.get(text);
  }

  async function load(text) {
    const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const module = await import(url).finally(() => URL.revokeObjectURL(url));
    const widget = module.render ? { render: module.render } : module.default;
    if (!widget) throw new Error("the module has no default export");
    return typeof widget === "function" ? widget() : widget;
  }

  function bind(model) {
    if (!bindings.has(model)) bindings.set(model, initialize(model));
    return bindings.get(model);
  }

  async function initialize(model) {
    const widget = await widgetOf(model.traits._esm);
    addStyle(model.traits);
    const result = await widget.initialize?.({ model: model.proxy("initialize"), signal: over.signal, experimental });
    atEnd(result, over.signal);
    return { widget, exports: typeof result === "object" ? result ?? undefined : undefined };
  }

  async function render(model, el, signal = over.signal) {
    const { widget } = await bind(model);
    el.classList.add(...(model.traits._dom_classes ?? []));
    atEnd(await widget.render?.({ model: model.proxy(el), el, signal, experimental, host }), signal);
  }

  function atEnd(cleanup, signal) {
    if (typeof cleanup === "function") signal.addEventListener("abort", cleanup);
  }

  function addStyle({ _css, _anywidget_id }) {
    if (!_css || document.getElementById(_anywidget_id)) return;
    document.head.append(Object.assign(document.createElement("style"), { id: _anywidget_id, textContent: _css }));
  }

  const experimental = { invoke: async () => { throw new Error("this page has no kernel"); } };

  const host = {
    getModel: async (reference) => find(reference).proxy(Symbol("host")),
    getWidget: async (reference) => ({
      exports: (await bind(find(reference))).exports,
      render: ({ el, signal }) => render(find(reference), el, signal),
    }),
  };

  // ---- Views
  const isFigure = (model) => model.name === "AnyModel";
  const children = (model) => (model.name in BOXES ? model.traits.children.map(find) : []);
  const known = (model) => isFigure(model) || (model.name in BOXES && children(model).every(known));

  async function ready(model) {
    await Promise.all(isFigure(model) ? [bind(model)] : children(model).map(ready));
  }

  async function show(model, el) {
    if (isFigure(model)) return render(model, el);
    el.style.cssText = `display: flex; flex-flow: ${BOXES[model.name]} wrap; gap: 1rem`;
    await Promise.all(children(model).map((child) => show(child, el.appendChild(document.createElement("div")))));
  }

  // Puts a figure before its script. The class tells the style sheet to hide the still picture on the screen.
  async function mount(script) {
    const output = script.parentElement;
    const el = Object.assign(document.createElement("div"), { className: "dl-live" });
    try {
      const model = find(JSON.parse(script.textContent).model_id);
      await ready(model);
      script.before(el);
      output.classList.add("dl-mounted");
      await show(model, el);
    } catch (error) {
      output.classList.remove("dl-mounted");
      el.remove();
      console.error("live figure: the still picture stays.", error);
    }
  }

  // ---- The full manager of ipywidgets
  async function mountWithManager(scripts) {
    if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done));
    for (const script of scripts) {
      const output = script.parentElement;
      const watch = new MutationObserver(() => {
        if (output.querySelector(".widget-subarea > *")) output.classList.add("dl-mounted");
      });
      watch.observe(output, { childList: true, subtree: true });
    }
    await addScript("require.js"); // after every other script of the page, which would take it for their loader
    requirejs.config({ paths: { anywidget: `${manager}anywidget` } });
    await addScript("embed-amd.js");
  }

  function addScript(name) {
    const script = document.createElement("script");
    script.src = manager + name;
    script.dataset.jupyterWidgetsCdn = manager; // or it would ask another host for a widget that it does not know
    return new Promise((done, fail) => {
      script.onload = done;
      script.onerror = () => fail(new Error(`${name} did not load`));
      document.head.append(script);
    });
  }

  // ---- The page
  async function start() {
    for (const script of document.querySelectorAll(`script[type="${STATE}"]`)) {
      for (const [id, entry] of Object.entries(JSON.parse(script.textContent).state)) models.set(id, new Model(entry));
    }
    const scripts = [...document.querySelectorAll(`script[type="${VIEW}"]`)];
    const shown = scripts.map((script) => models.get(JSON.parse(script.textContent).model_id)).filter(Boolean);
    const linked = [...models.values()].some(({ name }) => name.endsWith("LinkModel"));
    if (shown.every(known) && !linked) await Promise.all(scripts.map(mount));
    else await mountWithManager(scripts);
  }

  addEventListener("pagehide", (event) => event.persisted || over.abort());
  start().catch((error) => console.error("live figure: the still pictures stay.", error));
})();
