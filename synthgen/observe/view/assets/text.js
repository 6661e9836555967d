// Text of prompts and models is hostile: it only ever becomes text nodes, and what would be invisible is spelled out.

const append = (parent, ...children) => {
  for (const child of children) if (child) parent.append(child);
  return parent;
};

// Control, format, surrogate, private and unassigned characters, and line separators; joiners are part of scripts and emoji.
const HIDDEN = /(?:(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}])+/gu;
const CLIP_CHARACTERS = 900;
const CLIP_LINES = 14;

const spell = (run) => Array.from(run, (character) => {
  const code = character.codePointAt(0).toString(16);
  return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.length <= 4 ? code.padStart(4, "0") : `{${code}}`}`;
}).join("");

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = String(text).replace(HIDDEN, spell);
  return node;
};

const matcher = (query) => query ? new RegExp(query.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"), "giu") : null;

// Calls put(part, found) for the parts of `text` in order; found: whether the part is a match of `pattern`.
const split = (text, pattern, put) => {
  let end = 0;
  if (pattern) {
    for (const match of text.matchAll(pattern)) {
      if (match.index > end) put(text.slice(end, match.index), false);
      put(match[0], true);
      end = match.index + match[0].length;
    }
  }
  if (end < text.length) put(text.slice(end), false);
};

const fill = (node, text, pattern) => {
  const parts = document.createDocumentFragment();
  split(text.replaceAll("\r\n", "\n"), HIDDEN, (run, hidden) => {
    if (hidden) parts.append(make("span", "code", spell(run)));
    else split(run, pattern, (piece, found) => parts.append(found ? make("mark", "", piece) : piece));
  });
  node.replaceChildren(parts);
};

// Where the clipped view of `text` begins and ends: at the start, or near the first match if that lies behind the clip.
const clip = (text, pattern) => {
  const match = pattern ? text.search(new RegExp(pattern.source, "iu")) : -1;
  let start = match > CLIP_CHARACTERS - 100 ? match - 100 : 0;
  let end = Math.min(text.length, start + CLIP_CHARACTERS);
  let lines = 0;
  for (let index = start; index < end; index += 1) {
    if (text[index] === "\n" && (lines += 1) === CLIP_LINES) end = index;
  }
  const inside = (index) => index > 0 && index < text.length && /[\udc00-\udfff]/.test(text[index]);
  if (inside(start)) start -= 1;
  if (inside(end)) end += 1;
  return [start, end];
};

const makeText = (text, pattern) => {
  if (!text) return make("div", "soft", "(empty)");
  const box = make("div");
  const body = append(box, make("div", "text")).firstChild;
  const [start, end] = clip(text, pattern);
  const short = (start > 0 ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
  if (start === 0 && end === text.length) {
    fill(body, text, pattern);
    return box;
  }
  const button = make("button", "small");
  button.type = "button";
  let whole = false;
  const draw = () => {
    fill(body, whole ? text : short, pattern);
    button.textContent = whole ? "Show less" : `Show all ${text.length.toLocaleString("en")} characters`;
    button.setAttribute("aria-expanded", String(whole));
  };
  button.addEventListener("click", () => { whole = !whole; draw(); });
  draw();
  return append(box, button);
};
