// The browser of samples: a prompt with its completions side by side, found by words, source, model and margin.

const PAGE = 12;
const FEW = 20; // so few samples are shown with all that was said of them

const number = (value, digits = 2) => (value === null || value === undefined ? null : Number(value).toFixed(digits));

const makeRating = (rating, pattern, repeated) => {
  const expected = number(rating.expected);
  const value = rating.rating ?? "no rating";
  const name = repeated ? `${rating.aspect}, order ${rating.repetition + 1}` : rating.aspect;
  const title = append(make("div"), make("b", "", `${name}: ${value}`), expected === null ? null : ` (expected ${expected})`);
  return append(make("div", "rating"), title, rating.rationale ? makeText(rating.rationale, pattern) : null);
};

const makeSide = (completion, pattern, open) => {
  const facts = [completion.model, completion.tokens === null ? null : `${count(completion.tokens)} tokens`];
  const score = number(completion.score);
  const heading = [completion.role, score === null ? null : `score ${score}`].filter(Boolean).join(" · ");
  const role = append(
    make("div", "role"),
    heading ? make("b", "", heading) : null,
    ...facts.filter(Boolean).map((fact) => make("bdi", "break", fact)),
  );
  const side = append(make("div", "side"), role, makeText(completion.text, pattern));
  if (completion.role === "chosen" || completion.role === "rejected") side.classList.add(completion.role);
  for (const [name, value] of completion.facts) {
    append(side, append(make("div", "rating"), make("b", "", name), makeText(value, pattern)));
  }
  if (completion.ratings.length) {
    const box = append(make("details", "ratings"), make("summary", "", "Ratings and rationales"));
    const repeated = completion.ratings.some(({ repetition }) => repetition > 0);
    append(box, ...completion.ratings.map((rating) => makeRating(rating, pattern, repeated)));
    const found = pattern && completion.ratings.some(({ rationale }) => rationale && rationale.search(pattern) >= 0);
    box.open = open || Boolean(found);
    side.append(box);
  }
  return side;
};

const makeSample = (sample, pattern, open) => {
  const head = make("div", "head");
  const margin = number(sample.margin);
  if (margin !== null) append(head, append(make("span", "", "margin "), make("b", "", margin)));
  for (const [name, value] of [["source", sample.source], ["policy", sample.policy], ["prompt", sample.prompt_id]]) {
    if (value) append(head, append(make("span", "break", `${name} `), make("bdi", "", value)));
  }
  const card = append(make("article", "sample"), head);
  for (const turn of sample.prompt) {
    append(card, append(make("div", "turn"), make("div", "role", turn.role), makeText(turn.content, pattern)));
  }
  return append(card, append(make("div", "sides"), ...sample.completions.map((one) => makeSide(one, pattern, open))));
};

const textsOf = (sample) => [
  sample.prompt_id, sample.source, ...sample.prompt.map(({ content }) => content),
  ...sample.completions.flatMap(({ text, model, facts, ratings }) => [
    text, model, ...facts.map(([, value]) => value), ...ratings.map(({ rationale }) => rationale),
  ]),
].filter(Boolean);

const makeChoice = (label, all, values) => {
  const select = make("select");
  append(select, make("option", "", all));
  select.firstChild.value = "";
  values.forEach((value, index) => { append(select, make("option", "", value)).lastChild.value = String(index + 1); });
  return { select, label: append(make("label", "", label), select), chosen: () => values[Number(select.value) - 1] };
};

const makeNumber = (label) => {
  const input = make("input");
  Object.assign(input, { type: "number", step: "0.1", inputMode: "decimal" });
  return { input, label: append(make("label", "", label), input), value: () => (input.value === "" ? null : Number(input.value)) };
};

const makeBrowser = ({ samples, noun }) => {
  const sorted = (values) => [...new Set(values.filter(Boolean))].sort();
  const source = makeChoice("Source", "all sources", sorted(samples.map((sample) => sample.source)));
  const model = makeChoice("Model", "all models", sorted(samples.flatMap((s) => s.completions.map((one) => one.model))));
  const margins = samples.some(({ margin: one }) => one !== null);
  const byMargin = margins ? ["largest margin first", "smallest margin first"] : [];
  const order = makeChoice("Order", "as drawn", [...byMargin, "longest first"]);
  const [least, most] = [makeNumber("Margin from"), makeNumber("to")];
  const search = Object.assign(make("input"), { type: "search", placeholder: "words in prompts, completions, rationales" });
  const state = make("p", "soft");
  state.setAttribute("aria-live", "polite");
  const list = make("div");
  const more = Object.assign(make("button", "", "Show more"), { type: "button" });
  const tools = append(make("div", "tools"), append(make("label", "wide", "Search"), search), source.label, model.label);
  if (margins) append(tools, least.label, most.label);
  append(tools, order.label);
  tools.hidden = samples.length < 2;
  state.hidden = samples.length < 2;
  source.label.hidden = source.select.length <= 2;
  model.label.hidden = model.select.length <= 2;

  const margin = (sample) => sample.margin ?? -Infinity;
  const length = (sample) => Math.max(0, ...sample.completions.map(({ text }) => text.length));
  const orders = {
    "largest margin first": (a, b) => margin(b) - margin(a),
    "smallest margin first": (a, b) => margin(a) - margin(b),
    "longest first": (a, b) => length(b) - length(a),
  };
  let found = samples;
  let shown = 0;
  const extend = () => {
    const pattern = matcher(search.value.trim());
    const next = found.slice(shown, shown + PAGE);
    append(list, ...next.map((sample) => makeSample(sample, pattern, samples.length <= FEW)));
    shown += next.length;
    more.hidden = shown >= found.length;
    state.textContent = found.length
      ? `${count(found.length)} of ${count(samples.length)} ${noun}, ${count(shown)} shown`
      : `None of the ${count(samples.length)} ${noun} fit.`;
  };
  const filter = () => {
    const pattern = matcher(search.value.trim());
    found = samples.filter((sample) => (
      (!source.chosen() || sample.source === source.chosen())
      && (!model.chosen() || sample.completions.some((one) => one.model === model.chosen()))
      && (least.value() === null || (sample.margin !== null && sample.margin >= least.value()))
      && (most.value() === null || (sample.margin !== null && sample.margin <= most.value()))
      && (!pattern || textsOf(sample).some((text) => text.search(pattern) >= 0))
    ));
    const compare = orders[order.chosen()];
    if (compare) found = [...found].sort(compare);
    list.replaceChildren();
    shown = 0;
    extend();
  };
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  for (const control of [source.select, model.select, order.select, least.input, most.input]) control.addEventListener("change", filter);
  more.addEventListener("click", extend);
  filter();
  return append(make("div"), tools, state, list, more);
};
