/**
 * The part of Markdown that guidelines need, as elements: headings, paragraphs, lists, emphasis, code, links, pictures.
 * Nothing in it is taken for HTML.
 */

import { element } from "./dom.js";

const INLINE = /!\[([^\]]*)\]\(([^)\s]+)\)|\[([^\]]+)\]\(([^)\s]+)\)|\*\*([^*]+)\*\*|[*_]([^*_]+)[*_]|`([^`]+)`/g;

/** Elements for a text; `picture(name)` is the address of a picture that it names. */
export function markdown(source, picture) {
  const blocks = source.replace(/\r/g, "").split(/\n\s*\n|\n(?=#)|(?<=^#.*)\n/m);
  return blocks.filter((block) => block.trim()).map((block) => blockOf(block.trim(), picture));
}

function blockOf(block, picture) {
  const heading = block.match(/^(#{1,4})\s+(.*)/);
  // The dialog has the first two levels.
  if (heading) return fill(element(heading[1].length === 1 ? "h3" : "h4"), heading[2], picture);
  const lines = block.split("\n");
  const numbered = /^\d+[.)]\s+/;
  const bullet = /^[-*+]\s+/;
  for (const [mark, name] of [[bullet, "ul"], [numbered, "ol"]]) {
    if (!mark.test(lines[0])) continue;
    const list = element(name);
    for (const line of lines) {
      if (mark.test(line) || !list.lastChild) list.append(element("li", "", line.replace(mark, "")));
      else list.lastChild.textContent += ` ${line.trim()}`;
    }
    for (const item of list.children) fill(item, item.textContent, picture);
    return list;
  }
  return fill(element("p"), lines.join(" "), picture);
}

function fill(place, source, picture) {
  const parts = [];
  let end = 0;
  for (const found of source.matchAll(INLINE)) {
    parts.push(source.slice(end, found.index), inline(found, picture));
    end = found.index + found[0].length;
  }
  place.replaceChildren(...parts, source.slice(end));
  return place;
}

function inline([, alt, src, label, href, strong, emphasis, code], picture) {
  if (src !== undefined) {
    const image = element("img");
    image.src = picture(src);
    image.alt = alt;
    image.title = alt;
    return image;
  }
  if (href !== undefined) {
    const link = element("a", "", label);
    if (/^https?:/.test(href)) link.href = href;
    link.target = "_blank";
    link.rel = "noreferrer";
    return link;
  }
  if (strong !== undefined) return element("strong", "", strong);
  return emphasis !== undefined ? element("em", "", emphasis) : element("code", "", code);
}
