// The page: header, contents and sections, all from the JSON block.

const KINDS = {
  tiles: makeTiles, notices: makeNotices, findings: makeFindings, bars: makeBars, histogram: makeHistogram, intervals: makeIntervals,
  lines: makeLines, table: makeTable, samples: makeBrowser,
};
const FRAMELESS = new Set(["tiles", "notices", "samples"]);

const makeBlock = (block) => append(
  make("div", `block ${block.width || ""} ${FRAMELESS.has(block.kind) ? "plain" : ""}`),
  block.title ? make("h3", "", block.title) : null,
  block.note ? make("p", "soft", block.note) : null,
  KINDS[block.kind](block),
);

const makeSection = ({ id, title, note, blocks }) => {
  const section = make("section");
  section.id = id;
  return append(
    section,
    make("h2", "", title),
    note ? make("p", "soft", note) : null,
    append(make("div", "blocks"), ...blocks.map(makeBlock)),
  );
};

const page = JSON.parse(document.getElementById("data").textContent);
const heading = make("h1", "", page.title);
if (page.state) heading.append(make("span", `state ${page.state === "complete" ? "" : "partial"}`, page.state));
append(document.getElementById("top"), heading, ...page.facts.map((fact) => make("p", "soft break", fact)));
append(document.getElementById("contents"), append(make("div"), ...page.sections.map(({ id, title }) => {
  const link = make("a", "", title);
  link.href = `#${id}`;
  return link;
})));
append(document.getElementById("sections"), ...page.sections.map(makeSection));
append(document.body, make("footer", "", page.footer));
