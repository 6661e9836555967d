// Blocks: one function per kind, from the plain values that synthgen.view.content made to a node.

const PALETTE = Array.from({ length: 8 }, (_, index) => `var(--s${index + 1})`);
const count = (value) => value.toLocaleString("en", { maximumFractionDigits: 3 });
const compact = (value) => value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });

const duration = (seconds) => {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  if (hours) return minutes ? `${hours}h${String(minutes).padStart(2, "0")}` : `${hours}h`;
  if (minutes) return rest ? `${minutes}m${String(rest).padStart(2, "0")}` : `${minutes}m`;
  return `${+seconds.toFixed(1)}s`;
};

const makeLegend = (names) => append(make("div", "legend"), ...names.map((name, index) => {
  const swatch = make("i");
  swatch.style.background = PALETTE[index % PALETTE.length];
  return append(make("span"), swatch, make("bdi", "", name));
}));

const makeRow = (drop, { label, note, text, small }, track) => append(
  make("div", drop ? "row drop" : "row"),
  append(make("div", "label"), make("bdi", "", label), note ? make("small", "", note) : null),
  track,
  make("div", "value", text),
  make("div", "more", small || ""),
);

const makeTiles = ({ items }) => append(make("div", "tiles"), ...items.map(({ label, value, note }) => append(
  make("div", "tile"), make("span", "", label), make("b", "", value), note ? make("small", "", note) : null,
)));

const makeNotices = ({ heading, items }) => append(
  make("div", "notice"), make("b", "", heading), append(make("ul"), ...items.map((text) => make("li", "", text))),
);

const VERDICTS = { fine: "ok", warning: "warning", unknown: "cannot tell" };

const makeFindings = ({ rows }) => append(make("div", "findings"), ...rows.map(({ verdict, check, text }) => append(
  make("div", `finding ${verdict}`), make("b", "", VERDICTS[verdict]), make("span", "soft", check), make("bdi", "", text),
)));

const makeBars = ({ rows, max }) => {
  const top = max || Math.max(1e-12, ...rows.map((row) => row.value));
  const box = make("div", "bars");
  for (const { label, note, value, text, small, drop } of rows) {
    const bar = make("div", value > 0 ? "fill" : "fill none");
    bar.style.width = `${Math.min(100, (100 * value) / top)}%`;
    append(box, makeRow(drop, { label, note, text, small }, append(make("div", "track"), bar)));
  }
  return box;
};

const makeHistogram = ({ series, x_label: xLabel, y_label: yLabel }) => {
  const names = Object.keys(series);
  const labels = [...new Set(names.flatMap((name) => series[name].map(([label]) => label)))];
  const values = names.map((name) => new Map(series[name]));
  const top = Math.max(1, ...values.flatMap((bins) => [...bins.values()]));
  const room = Math.max(2, Math.floor(44 / Math.max(...labels.map((label) => label.length))));
  const step = Math.ceil(labels.length / room);
  const numbered = names.length === 1 && labels.length <= 12;
  const columns = append(make("div", "columns"), ...labels.map((label) => {
    const bin = make("div", "bin");
    bin.title = names.map((name, index) => `${name ? `${name}, ` : ""}${label}: ${count(values[index].get(label) || 0)}`).join("\n");
    for (const [index, bins] of values.entries()) {
      const value = bins.get(label) || 0;
      const bar = make("i");
      bar.style.height = value ? `max(2px, ${(88 * value) / top}%)` : "0";
      bar.style.background = PALETTE[index % PALETTE.length];
      if (numbered && value) bar.append(make("em", "", labels.length > 6 ? compact(value) : count(value)));
      bin.append(bar);
    }
    return bin;
  }));
  columns.setAttribute("role", "img");
  columns.setAttribute("aria-label", [...columns.children].map((bin) => bin.title).join("; "));
  return append(
    make("div"),
    make("div", "axis top", yLabel),
    names.length > 1 ? makeLegend(names) : null,
    columns,
    append(make("div", "ticks"), ...labels.map((label, index) => make("span", "", index % step ? "" : label))),
    make("div", "axis", xLabel),
  );
};

const makeIntervals = ({ rows, low, high, reference, scale }) => {
  const place = (value) => `${Math.max(0, Math.min(100, (100 * (value - low)) / (high - low || 1)))}%`;
  const box = make("div", "intervals");
  for (const row of rows) {
    const track = make("div", "track");
    if (reference !== null && reference !== undefined) {
      append(track, make("div", "zero")).lastChild.style.left = place(reference);
    }
    if (row.low !== null && row.high !== null) {
      const range = append(track, make("div", "range")).lastChild;
      range.style.left = place(row.low);
      range.style.width = `calc(${place(row.high)} - ${place(row.low)})`;
    }
    append(track, make("div", "dot")).lastChild.style.left = place(row.value);
    append(box, makeRow(false, row, track));
  }
  const axis = append(make("div", "scale"), ...scale.map((text) => make("span", "", text)));
  return append(box, append(make("div", "row"), axis));
};

const makeTable = ({ columns, rows, numbers, summary }) => {
  const kind = (index) => (numbers.includes(index) ? "number" : "");
  const head = append(make("tr"), ...columns.map((name, index) => make("th", kind(index), name)));
  const body = rows.map((row) => append(make("tr"), ...row.map((cell, index) => append(
    make("td", kind(index)), make("bdi", "", cell),
  ))));
  const table = append(
    make("div", "scroll"),
    append(make("table"), columns.some(Boolean) ? append(make("thead"), head) : null, append(make("tbody"), ...body)),
  );
  return summary ? append(make("details"), make("summary", "", summary), table) : table;
};
