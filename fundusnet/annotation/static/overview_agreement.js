/** Agreement on the overview: on findings and on questions, of all readers and of each group of readers. */

import { $, element } from "./dom.js";
import { estimate } from "./estimate.js";
import { row } from "./table.js";
import { nameIn, text } from "./text.js";

/** A kappa or alpha in figures and on a line. */
export function kappa(value, interval, why) {
  const figures = (number) => Number(number.toFixed(2)).toFixed(2).replace("-", "−"); // no minus before 0.00
  return estimate({ value, interval, from: -1, to: 1, at: 0, figures, why });
}

/** labels: finding → label; questions: of the session. */
export function showAgreement({ agreement, questions = [], groups = [] }, labels, asked) {
  const everybody = groups.length ? text("overview.everybody") : null;
  const parts = [{ title: everybody, agreement, questions }, ...groups.map((group) => ({ title: group.name, ...group }))];
  const rows = [...parts.flatMap((part) => part.agreement), ...parts.flatMap((part) => part.questions)];
  const unequal = rows.some(({ equal_readings: equal }) => !equal);
  $("alpha-hint").hidden = !unequal;
  $("agreement-section").hidden = labels.size === 0;
  $("agreement").replaceChildren(
    ...parts.flatMap(({ title, agreement: own }) => [...heading(title, 5), ...own.map((one) => finding(one, labels))]),
  );
  $("questions-section").hidden = questions.length === 0;
  $("questions").replaceChildren(
    ...parts.flatMap(({ title, questions: own }) => [...heading(title, 4), ...own.map((one) => question(one, asked))]),
  );
}

/** A line across a table that names a group; none without groups. */
export function heading(title, columns, beside = "") {
  if (title === null) return [];
  const line = document.createElement("tr");
  const cell = element("th", "group", title);
  cell.colSpan = columns;
  cell.scope = "rowgroup";
  if (beside) cell.append(element("small", "", ` ${beside}`));
  line.append(cell);
  return [line];
}

function finding({ finding: name, images, present, ...agreement }, labels) {
  return row([
    labels.get(name) ?? name,
    coefficient(agreement, "_image"),
    coefficient(agreement, "_region"),
    [String(images), "number"],
    [String(present), "number"],
  ]);
}

function question({ question: name, units, given, ...agreement }, asked) {
  const known = asked.find((one) => one.name === name);
  const counts = Object.entries(given).map(([choice, count]) => {
    const one = element("span", "", `${nameIn("choice", choice)} `);
    one.append(element("b", "", String(count)));
    return one;
  });
  const list = element("span", "given");
  list.append(...counts);
  return row([known?.label ?? name, coefficient(agreement, ""), [String(units), "number"], list]);
}

/** Kappa; where readings are unequal, alpha, which allows for that. The symbol says which, its title the other one. */
function coefficient(found, unit) {
  const reason = found[`reason${unit}`] ?? found.reason;
  const why = nameIn("kappa", reason, reason ?? text("overview.too_few"));
  const name = found.equal_readings ? "kappa" : "alpha";
  const shown = kappa(found[`${name}${unit}`], found[`${name}${unit}_interval`], why);
  if (found[`${name}${unit}`] === null) return shown;
  const symbols = { kappa: "κ", alpha: "α" };
  const other = name === "kappa" ? "alpha" : "kappa";
  const symbol = element("i", "", symbols[name]);
  shown.prepend(symbol);
  const value = found[`${other}${unit}`];
  if (value !== null) shown.title = `${symbols[other]} ${value.toFixed(2).replace("-", "−")}`;
  return shown;
}
