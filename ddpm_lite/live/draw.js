// Drawing in data coordinates on a canvas.

const MARGIN = { left: 46, right: 12, top: 10, bottom: 38 };
const NONE = { left: 0, right: 0, top: 0, bottom: 0 };
const FONT = '13px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif';

// n even values from low to high, both included.
export function linspace(low, high, n) {
  return Float64Array.from({ length: n }, (_, i) => low + ((high - low) * i) / (n - 1));
}

// Round numbers inside [low, high], about n of them.
export function ticks([low, high], n = 5) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.99);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

// Line segments x0, y0, x1, y1, ... where a function on a grid equals a level (marching squares).
// values[j * nx + i] belongs to (xs[i], ys[j]).
export function contourSegments(values, xs, ys, level) {
  const nx = xs.length;
  const out = [];
  const crossing = (a, b, va, vb) => a + ((b - a) * (level - va)) / (vb - va);
  for (let j = 0; j + 1 < ys.length; j++) {
    for (let i = 0; i + 1 < nx; i++) {
      const [a, b] = [values[j * nx + i], values[j * nx + i + 1]];
      const [d, c] = [values[(j + 1) * nx + i], values[(j + 1) * nx + i + 1]];
      const cuts = [];
      if (a < level !== b < level) cuts.push([crossing(xs[i], xs[i + 1], a, b), ys[j]]);
      if (b < level !== c < level) cuts.push([xs[i + 1], crossing(ys[j], ys[j + 1], b, c)]);
      if (d < level !== c < level) cuts.push([crossing(xs[i], xs[i + 1], d, c), ys[j + 1]]);
      if (a < level !== d < level) cuts.push([xs[i], crossing(ys[j], ys[j + 1], a, d)]);
      for (let k = 0; k + 1 < cuts.length; k += 2) out.push(...cuts[k], ...cuts[k + 1]);
    }
  }
  return out;
}

// A canvas with two axes. Coordinates of every method are data; sizes are CSS pixels.
export class Panel {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  // Starts a picture: sets ranges and colours, clears, and draws the axes.
  begin({ x, y, xlabel = "", ylabel = "", xticks, yticks, frame = true }, colours) {
    const ratio = globalThis.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    Object.assign(this, { x, y, width, height, colours, margin: frame ? MARGIN : NONE });
    const c = this.context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = FONT;
    if (frame) this.axes(xlabel, ylabel, xticks ?? ticks(x), yticks ?? ticks(y, 4));
  }

  px(x) {
    const { left, right } = this.margin;
    return left + ((x - this.x[0]) / (this.x[1] - this.x[0])) * (this.width - left - right);
  }

  py(y) {
    const { top, bottom } = this.margin;
    return this.height - bottom - ((y - this.y[0]) / (this.y[1] - this.y[0])) * (this.height - top - bottom);
  }

  // The data coordinates of a pixel, kept inside the axes.
  inverse(px, py) {
    const { left, right, top, bottom } = this.margin;
    const u = (px - left) / (this.width - left - right);
    const v = (this.height - bottom - py) / (this.height - top - bottom);
    const inside = (w, [low, high]) => low + (high - low) * Math.min(1, Math.max(0, w));
    return [inside(u, this.x), inside(v, this.y)];
  }

  axes(xlabel, ylabel, xticks, yticks) {
    const c = this.context;
    const { left, right, top, bottom } = this.margin;
    const [floor, end] = [this.height - bottom, this.width - right];
    c.strokeStyle = this.colours.muted;
    c.fillStyle = this.colours.text;
    c.lineWidth = 1;
    c.beginPath();
    c.moveTo(left, top);
    c.lineTo(left, floor);
    c.lineTo(end, floor);
    c.textAlign = "center";
    c.textBaseline = "top";
    for (const [value, name] of named(xticks)) {
      c.moveTo(this.px(value), floor);
      c.lineTo(this.px(value), floor + 4);
      c.fillText(name, this.px(value), floor + 6);
    }
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const [value, name] of named(yticks)) {
      c.moveTo(left, this.py(value));
      c.lineTo(left - 4, this.py(value));
      c.fillText(name, left - 6, this.py(value));
    }
    c.stroke();
    c.textAlign = "center";
    c.textBaseline = "bottom";
    c.fillText(xlabel, (left + end) / 2, this.height - 2);
    c.save();
    c.translate(2, (top + floor) / 2);
    c.rotate(-Math.PI / 2);
    c.textBaseline = "top";
    c.fillText(ylabel, 0, 0);
    c.restore();
  }

  // Runs a drawing with what lies outside the axes cut off.
  inside(drawing) {
    const { left, right, top, bottom } = this.margin;
    this.context.save();
    this.context.beginPath();
    this.context.rect(left, top, this.width - left - right, this.height - top - bottom);
    this.context.clip();
    drawing(this.context);
    this.context.restore();
  }

  // A line through the points (xs[i], ys[i]).
  line(xs, ys, { colour = this.colours.blue, width = 2, dash = [], alpha = 1 } = {}) {
    this.inside((c) => {
      Object.assign(c, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha, lineJoin: "round" });
      c.setLineDash(dash);
      c.beginPath();
      for (let i = 0; i < xs.length; i++) c.lineTo(this.px(xs[i]), this.py(ys[i]));
      c.stroke();
    });
  }

  // Separate segments, flat as x0, y0, x1, y1, ...
  segments(flat, { colour = this.colours.blue, width = 1.5, dash = [], alpha = 1 } = {}) {
    this.inside((c) => {
      Object.assign(c, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
      c.setLineDash(dash);
      c.beginPath();
      for (let i = 0; i < flat.length; i += 4) {
        c.moveTo(this.px(flat[i]), this.py(flat[i + 1]));
        c.lineTo(this.px(flat[i + 2]), this.py(flat[i + 3]));
      }
      c.stroke();
    });
  }

  // Level lines of values on a grid: values[j * xs.length + i] at (xs[i], ys[j]).
  contour(values, xs, ys, levels, style) {
    for (const level of levels) this.segments(contourSegments(values, xs, ys, level), style);
  }

  // Bars from the axis y = base; edges has one number more than heights.
  bars(edges, heights, { colour = this.colours.sky, alpha = 0.5, base = 0, gap = 0.5 } = {}) {
    this.inside((c) => {
      Object.assign(c, { fillStyle: colour, globalAlpha: alpha });
      for (let i = 0; i < heights.length; i++) {
        const [left, right, top, floor] = [this.px(edges[i]), this.px(edges[i + 1]), this.py(heights[i]), this.py(base)];
        c.fillRect(left + gap, Math.min(top, floor), right - left - 2 * gap, Math.abs(floor - top));
      }
    });
  }

  // Dots at a flat array x0, y0, x1, y1, ...
  points(flat, { colour = this.colours.blue, size = 3, alpha = 0.7 } = {}) {
    this.inside((c) => {
      Object.assign(c, { fillStyle: colour, globalAlpha: alpha });
      const half = size / 2;
      c.beginPath();
      for (let i = 0; i < flat.length; i += 2) {
        const [px, py] = [this.px(flat[i]), this.py(flat[i + 1])];
        c.moveTo(px + half, py);
        c.arc(px, py, half, 0, 2 * Math.PI);
      }
      c.fill();
    });
  }

  // Arrows of a vector field, at and by flat arrays x0, y0, ...; scale is data units of length for one unit of the field.
  quiver(at, by, { colour = this.colours.muted, scale = 1, width = 1.2, head = 4, alpha = 1 } = {}) {
    this.inside((c) => {
      Object.assign(c, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
      c.beginPath();
      for (let i = 0; i < at.length; i += 2) {
        const [x0, y0] = [this.px(at[i]), this.py(at[i + 1])];
        const [x1, y1] = [this.px(at[i] + scale * by[i]), this.py(at[i + 1] + scale * by[i + 1])];
        const length = Math.hypot(x1 - x0, y1 - y0);
        if (length < 0.5) continue;
        const size = Math.min(head, length / 2) / length;
        const [ux, uy] = [(x1 - x0) * size, (y1 - y0) * size];
        c.moveTo(x0, y0);
        c.lineTo(x1, y1);
        c.lineTo(x1 - ux - 0.6 * uy, y1 - uy + 0.6 * ux);
        c.moveTo(x1, y1);
        c.lineTo(x1 - ux + 0.6 * uy, y1 - uy - 0.6 * ux);
      }
      c.stroke();
    });
  }

  // Grey pixels in [-1, 1], row-major from the top left, in the box from (x0, y0), bottom left, to (x1, y1).
  image(pixels, columns, [x0, y0, x1, y1]) {
    const rows = pixels.length / columns;
    const [left, top] = [this.px(x0), this.py(y1)];
    const [w, h] = [(this.px(x1) - left) / columns, (this.py(y0) - top) / rows];
    this.inside((c) => {
      for (let i = 0; i < pixels.length; i++) {
        const grey = Math.round(127.5 * (1 + Math.min(1, Math.max(-1, pixels[i]))));
        c.fillStyle = `rgb(${grey}, ${grey}, ${grey})`;
        const [column, row] = [i % columns, Math.floor(i / columns)];
        c.fillRect(left + column * w, top + row * h, w + 0.5, h + 0.5);
      }
    });
  }

  // Words at a place; align is left, center or right.
  text(x, y, words, { colour = this.colours.text, align = "left", dx = 0, dy = 0, bold = false } = {}) {
    const c = this.context;
    c.font = bold ? `bold ${FONT}` : FONT;
    Object.assign(c, { fillStyle: colour, textAlign: align, textBaseline: "middle" });
    c.fillText(words, this.px(x) + dx, this.py(y) + dy);
    c.font = FONT;
  }
}

// Ticks with the text of each: plain numbers, or pairs [number, text].
function named(list) {
  return list.map((tick) => (Array.isArray(tick) ? tick : [tick, String(tick).replace("-", "\u2212")]));
}
