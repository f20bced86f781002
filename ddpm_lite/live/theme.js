// Colours that follow the page: the eight of Okabe and Ito, lighter where the page is dark.

const LIGHT = {
  text: "#1a1f26", muted: "#59636e", line: "#c3c9d1", paper: "#ffffff",
  blue: "#0072b2", vermilion: "#c74e00", green: "#008560", orange: "#a87300", purple: "#a8558a", sky: "#3a87b8",
};
const DARK = {
  text: "#e6eaef", muted: "#a3adb8", line: "#48566b", paper: "#14181e",
  blue: "#56b4e9", vermilion: "#f0814a", green: "#2cc49a", orange: "#e69f00", purple: "#e09cc2", sky: "#8fcdf5",
};

export const THEMES = { light: LIGHT, dark: DARK };

// Relative luminance of an [r, g, b] of 0 to 255 (WCAG 2.1).
export function luminance(rgb) {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = rgb.map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// "light" or "dark", by what is painted behind the element; where nothing is, by what the page or the system says.
export function themeOf(element) {
  for (let node = element; node instanceof Element; node = node.parentElement ?? node.getRootNode().host) {
    const parts = getComputedStyle(node).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    if ((parts[3] ?? 1) > 0.5) return luminance(parts.slice(0, 3)) < 0.2 ? "dark" : "light";
  }
  const said = document.documentElement.dataset.theme ?? document.documentElement.getAttribute("theme");
  if (said === "dark" || said === "light") return said;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// Calls back when the page changes its theme; returns the function that ends this.
export function watchTheme(callback) {
  const observer = new MutationObserver(callback);
  for (const node of [document.documentElement, document.body]) {
    observer.observe(node, { attributes: true, attributeFilter: ["class", "theme", "data-theme", "data-jp-theme-light"] });
  }
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", callback);
  return () => {
    observer.disconnect();
    system.removeEventListener("change", callback);
  };
}
