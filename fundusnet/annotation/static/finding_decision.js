/** Deciding whether a finding is present, and where: by the pad, in the picture of the decision, or by keys. */

import { $ } from "./dom.js";
import { REGIONS } from "./geometry.js";
import { regionOfKey } from "./keys.js";
import { Pad } from "./pad.js";
import { toast } from "./status.js";
import { text } from "./text.js";

export class FindingDecision {
  #words;
  #on;
  #pad;
  #about = null;
  #draft = null;
  #temporalLeft = true;
  #pane = null;

  /**
   * on: isShown(): whether it can be decided; record(decision); decided(line): it is final, and this says so; hover(region
   * or null).
   */
  constructor(words, on) {
    this.#words = words;
    this.#on = on;
    this.#pad = new Pad($("pad"), words.regions, {
      toggle: (region) => this.toggle(region),
      all: () => this.all(),
      clear: () => this.clear(),
      hover: on.hover,
    });
  }

  /** Start from what was decided, or from all regions that any reader marked. */
  open(image, about, decided, pane) {
    const { finding } = about;
    const marked = REGIONS.filter((region) => image.readings.some((one) => one.findings[finding]?.includes(region)));
    this.#about = about;
    this.#pane = pane;
    this.#temporalLeft = image.fovea[0] < image.disc[0];
    this.#draft = decided ? { present: decided.present, regions: decided.regions } : { present: null, regions: marked };
    this.#draw();
  }

  decide(present) {
    if (!this.#on.isShown()) return;
    if (present && this.#draft.regions.length === 0) {
      toast(text("decision.needs_regions"));
      return;
    }
    this.#set({ ...this.#draft, present });
    if (present !== null) this.#on.decided((image) => text(`decision.made.${present ? "present" : "absent"}`, { image }));
  }

  toggle(region) {
    if (!region) return;
    const { present } = this.#draft;
    const regions = present === false ? [] : this.#draft.regions;
    const now = regions.includes(region) ? regions.filter((name) => name !== region) : [...regions, region];
    // A finding without regions cannot be present, and marking a region withdraws "absent".
    this.#set({ present: present && now.length ? true : null, regions: now });
  }

  /** Select all regions; if they are, none. */
  all() {
    const regions = this.#draft.regions.length === REGIONS.length ? [] : REGIONS;
    this.#set({ present: this.#draft.present && regions.length ? true : null, regions });
  }

  clear() {
    this.#set({ ...this.#draft, regions: [] });
  }

  /** A key selects its region; whether it is one of them. */
  press(event) {
    const region = event.ctrlKey || event.metaKey || event.shiftKey ? null : regionOfKey(event, this.#temporalLeft);
    if (region && !event.repeat) this.toggle(region);
    return Boolean(region);
  }

  point(region) {
    this.#pad.point(region);
  }

  describe({ present, regions }) {
    if (present === false) return text("decision.is_absent");
    const decision = text(present ? "decision.is_present" : "decision.is_open");
    const where = this.#words.where(regions);
    return where ? text("decision.in_regions", { decision, regions: where }) : decision;
  }

  #set(draft) {
    if (!this.#on.isShown()) return;
    const before = this.#draft;
    this.#draft = draft;
    this.#draw();
    // A draft stays on this page until it is decided; only a changed or withdrawn decision is sent.
    if (draft.present === null && before.present === null) return;
    const regions = draft.present ? REGIONS.filter((region) => draft.regions.includes(region)) : [];
    this.#on.record({ present: draft.present, regions });
  }

  #draw() {
    const { present } = this.#draft;
    const regions = present === false ? [] : this.#draft.regions;
    const colour = this.#words.colour(this.#about.finding);
    this.#pane.title.textContent = text("decision");
    this.#pane.text.textContent = this.describe(this.#draft);
    this.#pane.overlay.show({ fill: { regions, colour } });
    this.#pad.show(regions, colour, this.#temporalLeft);
    $("present").setAttribute("aria-pressed", String(present === true));
    $("absent").setAttribute("aria-pressed", String(present === false));
    $("open").hidden = present === null;
  }
}
