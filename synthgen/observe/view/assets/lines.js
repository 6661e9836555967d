// Lines over time: drawn for the width there is, and again when that changes.

const SVG = "http://www.w3.org/2000/svg";

const draw = (parent, tag, attributes, text) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};

// Round numbers from 0 to at least `top`, about `wanted` of them; `steps` are the allowed leading factors.
const ticks = (top, wanted, steps = [1, 2, 2.5, 5, 10]) => {
  const raw = (top || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = steps.map((factor) => factor * power).find((size) => size >= raw) || raw;
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, index) => index * step);
};

const timeTicks = (top, wanted) => {
  const sizes = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = sizes.find((size) => size >= top / wanted) || 86400 * Math.ceil(top / wanted / 86400);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, index) => index * step);
};

const makeLines = ({ series, x_label: xLabel, y_label: yLabel, bands = [], timed = true }) => {
  const showX = timed ? duration : count;
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  const right = Math.max(1, ...xs);
  const top = Math.max(1, ...series.flatMap(({ points }) => points.map(([, y]) => y))) * 1.05;
  const box = make("div", "lines");
  const svg = draw(box, "svg", { role: "img", "aria-label": `${yLabel} over ${xLabel}` });
  const tip = append(box, make("div", "tip")).lastChild;
  tip.hidden = true;
  const area = { left: 44, top: 8, bottom: 216, width: 0 };
  const toX = (x) => area.left + (area.width * x) / right;
  const toY = (y) => area.bottom - ((area.bottom - area.top) * y) / top;
  let cross = null;

  const paint = () => {
    area.width = Math.max(60, box.clientWidth - area.left - 12);
    svg.replaceChildren();
    for (const [from, to] of bands) {
      draw(svg, "rect", { x: toX(from), y: area.top, width: Math.max(1, toX(Math.min(to, right)) - toX(from)), height: area.bottom - area.top, class: "band" });
    }
    for (const y of ticks(top, 4)) {
      draw(svg, "line", { x1: area.left, x2: area.left + area.width, y1: toY(y), y2: toY(y), class: y ? "grid" : "base" });
      draw(svg, "text", { x: area.left - 6, y: toY(y) + 4, "text-anchor": "end" }, compact(y));
    }
    for (const x of (timed ? timeTicks : ticks)(right, Math.max(2, area.width / 70))) {
      draw(svg, "text", { x: toX(x), y: area.bottom + 17, "text-anchor": "middle" }, showX(x));
    }
    series.forEach(({ points }, index) => {
      const path = points.map(([x, y], at) => `${at ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
      draw(svg, "path", { d: path, "stroke-linecap": "round" }).style.stroke = PALETTE[index % PALETTE.length];
    });
    cross = draw(svg, "line", { x1: 0, x2: 0, y1: area.top, y2: area.bottom, class: "cross", visibility: "hidden" });
  };

  const nearest = (points, x) => points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
  const leave = () => { tip.hidden = true; if (cross) cross.setAttribute("visibility", "hidden"); };
  svg.addEventListener("pointermove", (event) => {
    const x = ((event.clientX - box.getBoundingClientRect().left - area.left) / area.width) * right;
    if (x < 0 || x > right) { leave(); return; }
    const at = nearest(series[0].points, x)[0];
    cross.setAttribute("x1", toX(at));
    cross.setAttribute("x2", toX(at));
    cross.setAttribute("visibility", "visible");
    tip.replaceChildren(make("div", "", timed ? duration(at) : `${xLabel} ${count(at)}`), ...series.map(({ name, points }, index) => {
      const swatch = make("i");
      swatch.style.background = PALETTE[index % PALETTE.length];
      return append(make("div"), swatch, make("bdi", "", name), make("b", "", count(Math.round(nearest(points, at)[1]))));
    }));
    tip.hidden = false;
    const far = toX(at) > area.left + area.width / 2;
    tip.style.left = far ? "auto" : `${toX(at) + 10}px`;
    tip.style.right = far ? `${box.clientWidth - toX(at) + 10}px` : "auto";
  });
  svg.addEventListener("pointerleave", leave);
  new ResizeObserver(paint).observe(box);
  return append(make("div"), makeLegend(series.map(({ name }) => name)), box, make("div", "axis", xLabel));
};
