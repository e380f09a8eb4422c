/**
 * All texts of the pages, in the first of the browser's languages that has a file in texts/, else in English. A text has
 * a key; in it, {name} stands for a value, and a text that depends on a count is an object by plural category.
 */

const LANGUAGES = ["en", "de"];

export const language =
  navigator.languages.map((tag) => tag.split("-")[0]).find((tag) => LANGUAGES.includes(tag)) ?? LANGUAGES[0];
const texts = await (await fetch(new URL(`texts/${language}.json`, import.meta.url))).json();
const plurals = new Intl.PluralRules(language);

/** The text of a key; the key itself if it has none. */
export function text(key, values = {}) {
  const found = texts[key] ?? key;
  const form = typeof found === "string" ? found : (found[plurals.select(values.count)] ?? found.other);
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A share as whole per cent, in the way of the language. */
export function percent(share) {
  return share.toLocaleString(language, { style: "percent" });
}

/** The name of a finding, region or reason: a study may have findings that the texts do not know. */
export function nameIn(group, name, otherwise = name) {
  return texts[`${group}.${name}`] ?? otherwise;
}

const PLACES = { text: "textContent", title: "title", label: "ariaLabel", placeholder: "placeholder", alt: "alt" };

/** Fill in the texts of the page: `data-text`, `data-title`, `data-label` … hold their keys. */
function translate() {
  document.documentElement.lang = language;
  for (const [name, property] of Object.entries(PLACES)) {
    for (const root of [document, ...[...document.querySelectorAll("template")].map((one) => one.content)]) {
      for (const element of root.querySelectorAll(`[data-${name}]`)) element[property] = text(element.dataset[name]);
    }
  }
}

translate();
