/* The photographs of a page of predictions: a grid to sort and filter, a viewer, and sheets to print. */
(() => {
  const LISTED = JSON.parse(document.getElementById("listed").textContent);
  const { graded, located, grades, findings, flags, photographs } = LISTED;
  const AT_ONCE = 60; // tiles that are added as the reader scrolls down
  const form = document.getElementById("controls"), grid = document.getElementById("tiles");
  const more = document.getElementById("more"), viewer = document.getElementById("viewer");
  const byName = new Map(findings.map((finding) => [finding.name, finding]));
  let shown = [], finding = findings[0]?.name;

  const element = (tag, name = "", ...children) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...children);
    return made;
  };
  /** A probability in as many digits as its operating point has; it is never quite 0 or 1. */
  const number = (value) => value >= 0.9995 ? "> 0.999" : value < 0.0005 ? "< 0.001" : value.toFixed(3);
  const score = (photo, name = finding) => graded ? photo.grade.expected : photo.findings[name].p;
  const layerOf = (photo, name = finding) => photo.layers[graded ? "mask" : name];
  const unusual = (photo) => photo.flags.filter((flag) => flag !== "unchecked");
  const who = (photo) => [photo.patient && `patient ${photo.patient}`, photo.eye && `${photo.eye} eye`].filter(Boolean).join(", ");
  /** The finding furthest above its operating point: what a photograph is shown for. */
  const leading = (photo) => findings.reduce((best, each) =>
    photo.findings[each.name].p - each.level > photo.findings[best.name].p - best.level ? each : best, findings[0])?.name;

  const meter = (value, level) => {
    const bar = element("span", "meter", element("span"));
    bar.firstChild.style.width = `${100 * value}%`;
    if (level !== undefined) {
      const mark = element("i");
      mark.style.left = `${100 * level}%`;
      bar.append(mark);
    }
    return bar;
  };
  const picture = (source, name, alt) => {
    const image = element("img", name);
    Object.assign(image, { alt, decoding: "async", src: source });
    return image;
  };
  const layered = (photo, name, size = "small") => {
    const box = element("span", "photo");
    if (photo[size]) box.append(picture(photo[size], "", photo.id));
    const layer = located ? photo.layers.regions : layerOf(photo, name);
    if (layer) box.append(picture(layer, located ? "regions" : "heat", ""));
    return box;
  };
  /** What the network says of a photograph, in words. */
  const verdict = (photo) => {
    if (graded) return grades[photo.grade.grade];
    const present = findings.filter(({ name }) => photo.findings[name].present);
    return present.map(({ title }) => title).join(", ") || (located ? "nothing found" : findings.length > 1 ? `none of the ${findings.length} findings` : `no ${findings[0].title.toLowerCase()}`);
  };

  // --- the grid
  const tile = (photo, place) => {
    const caption = element("span", "caption", element("strong", "", photo.id));
    if (who(photo)) caption.append(element("span", "", who(photo)));
    const positive = graded ? photo.grade.grade > 0 : findings.some(({ name }) => photo.findings[name].present);
    caption.append(element("span", `verdict ${positive ? "yes" : "no"}`, verdict(photo)));
    if (graded) {
      caption.append(meter(photo.grade.expected / (grades.length - 1)), `expected grade ${photo.grade.expected.toFixed(2)}`);
    } else {
      const { p, regions } = photo.findings[finding], { level, title } = byName.get(finding);
      caption.append(meter(p, level), `${title}: ${number(p)}`);
      if (regions?.length) caption.append(element("span", "soft", `mostly in ${regions.join(", ")}`));
    }
    caption.append(...unusual(photo).map((flag) => element("span", "flag", flag.replaceAll("_", " "))));
    const button = element("button", "tile", layered(photo), caption);
    for (const image of button.querySelectorAll("img")) image.loading = "lazy";
    button.type = "button";
    button.addEventListener("click", () => open(place));
    return button;
  };
  const grow = () => {
    const start = grid.children.length;
    grid.append(...shown.slice(start, start + AT_ONCE).map((photo, number) => tile(photo, start + number)));
  };
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && grow(), { rootMargin: "800px" }).observe(more);

  // One collator for all: localeCompare makes one for each comparison, which takes seconds with ten thousand photographs.
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  photographs.sort((a, b) => compare(a.path, b.path)); // sorting is stable: what is equal stays in this order
  const ORDERS = {
    highest: [graded ? "grade, highest first" : "probability, highest first", (a, b) => score(b) - score(a)],
    nearest: ["least certain first", (a, b) => doubt(a) - doubt(b)],
    name: ["name", () => 0],
    patient: ["patient", (a, b) => compare(a.patient ?? "\uffff", b.patient ?? "\uffff") || compare(a.eye ?? "", b.eye ?? "")],
  };
  /** How near a decision was to falling the other way. */
  const doubt = (photo) => graded
    ? Math.min(...photo.grade.p.map((p) => Math.abs(p - 0.5)))
    : Math.abs(score(photo) - byName.get(finding).level);
  const FILTERS = {
    show: (photo, wanted) => graded ? String(photo.grade.grade) === wanted : photo.findings[finding].present === (wanted === "present"),
    flag: (photo, wanted) => wanted === "*" ? unusual(photo).length > 0 : wanted === "-" ? unusual(photo).length === 0 : photo.flags.includes(wanted),
    search: (photo, wanted) => [photo.id, photo.path, photo.patient ?? ""].some((text) => text.toLowerCase().includes(wanted.trim().toLowerCase())),
  };

  const field = (label, name, options) => {
    const select = element("select");
    select.name = name;
    for (const [value, words] of options) select.append(new Option(words, value));
    form.append(element("label", "", label, select));
  };
  if (findings.length > 1) field(located ? "Point" : "Finding", "finding", findings.map(({ name, title }) => [name, title]));
  const choices = graded ? grades.map((name, grade) => [String(grade), name]) : [["present", "present"], ["absent", "absent"]];
  field(graded ? "Grade" : "Predicted", "show", [["", "all"], ...choices]);
  const spoken = Object.keys(flags).map((name) => [name, name.replaceAll("_", " ")]);
  field("Flags", "flag", [["", "any or none"], ["*", "flagged"], ["-", "not flagged"], ...spoken]);
  const search = Object.assign(element("input"), { type: "search", name: "search", placeholder: "name or patient" });
  form.append(element("label", "", "Search", search));
  field("Sort by", "sort", Object.entries(ORDERS).filter(([name]) => name !== "patient" || photographs.some((photo) => photo.patient))
    .map(([value, [words]]) => [value, words]));
  const maps = Object.assign(element("input"), { type: "checkbox", name: "maps", checked: true });
  if (photographs.some((photo) => layerOf(photo))) form.append(element("label", "check", maps, "maps"));
  const print = Object.assign(element("button", "button", "Print, one page per patient"), { type: "button" });
  const count = element("output");
  form.append(print, count);

  const update = () => {
    finding = form.finding?.value ?? finding;
    const wanted = Object.entries(FILTERS).filter(([name]) => form[name].value.trim());
    shown = photographs.filter((photo) => wanted.every(([name, keep]) => keep(photo, form[name].value)));
    shown.sort(ORDERS[form.sort.value][1]);
    count.textContent = `${shown.length} of ${photographs.length}`;
    grid.classList.toggle("plain", !maps.checked);
    grid.replaceChildren();
    grow();
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());

  // --- one photograph
  const stage = viewer.querySelector(".stage"), canvas = viewer.querySelector(".canvas"), panel = viewer.querySelector("aside");
  const state = { place: 0, finding: "", fade: 100, regions: true, zoom: 1 };
  let sides = [4, 3];

  const open = (place) => {
    Object.assign(state, { place, zoom: 1 });
    // The map that the grid shows; if that finding is absent here and another is present, the leading one.
    const found = graded ? {} : shown[place].findings, first = leading(shown[place]);
    state.finding = !graded && !found[finding].present && found[first].present ? first : finding;
    if (!viewer.open) viewer.showModal();
    draw();
  };
  const fitting = () => Math.min(stage.clientWidth / sides[0], stage.clientHeight / sides[1]);
  const fit = () => {
    const scale = fitting() * state.zoom;
    Object.assign(canvas.style, { width: `${sides[0] * scale}px`, height: `${sides[1] * scale}px` });
  };
  const fade = () => {
    for (const layer of canvas.querySelectorAll(".heat")) layer.style.opacity = state.fade / 100;
    for (const layer of canvas.querySelectorAll(".regions")) layer.hidden = !state.regions;
  };
  const button = (words, title, action) => {
    const made = Object.assign(element("button", "button", words), { type: "button", title });
    made.setAttribute("aria-label", title);
    made.addEventListener("click", action);
    return made;
  };
  const step = (by) => shown[state.place + by] && open(state.place + by);
  /** Zoom to a multiple of the size that fits; what is under the pointer, or in the middle, stays where it is. */
  const zoomTo = (wanted, event) => {
    const frame = stage.getBoundingClientRect(), before = canvas.getBoundingClientRect();
    const x = event?.clientX ?? frame.left + stage.clientWidth / 2, y = event?.clientY ?? frame.top + stage.clientHeight / 2;
    const across = (x - before.left) / before.width, down = (y - before.top) / before.height;
    state.zoom = Math.min(Math.max(8, 1 / fitting()), Math.max(1, wanted));
    fit();
    const now = canvas.getBoundingClientRect();
    stage.scrollBy(now.left + across * now.width - x, now.top + down * now.height - y);
  };
  const zoom = (factor) => zoomTo(factor ? state.zoom * factor : 1);
  /** A pixel of the photograph for a pixel of the screen. */
  const whole = (event) => zoomTo(1 / fitting(), event);
  stage.addEventListener("dblclick", (event) => state.zoom > 1 ? zoomTo(1, event) : whole(event));
  stage.addEventListener("pointermove", (event) => event.buttons === 1 && event.pointerType === "mouse" && stage.scrollBy(-event.movementX, -event.movementY));

  let base = {}; // the photograph that is shown, its picture, and how large that is
  /** The picture of a photograph: at once at up to 1280 pixels, at its own size as soon as that is loaded. */
  const baseOf = (photo) => {
    if (base.photo === photo) return base;
    const mine = base = { photo, picture: picture(photo.photograph, "", photo.id), size: element("span") };
    mine.picture.draggable = false;
    mine.picture.addEventListener("load", () => {
      if (base !== mine) return;
      sides = [mine.picture.naturalWidth, mine.picture.naturalHeight];
      mine.size.textContent = `${sides[0]} × ${sides[1]} pixels${mine.more ?? ""}`;
      fit();
    });
    if (photo.whole) {
      const larger = new Image();
      mine.more = ", larger is loading";
      larger.addEventListener("load", () => { mine.more = ""; mine.picture.src = larger.src; });
      larger.addEventListener("error", () => {
        mine.more = "; its own size is in report/, which is not beside this page";
        mine.picture.dispatchEvent(new Event("load"));
      });
      larger.src = photo.whole;
    }
    return mine;
  };

  const lineOf = ({ name, title, level }, photo) => {
    const { p, present, calibrated, regions } = photo.findings[name];
    const sure = calibrated === undefined ? "" : `; calibrated ${number(calibrated)}`;
    const line = element("button", "line",
      element("span", `verdict ${present ? "yes" : "no"}`, `${title}: ${present ? "present" : "absent"}`), meter(p, level),
      element("small", "", `Probability ${number(p)}${sure}. Counts as present from ${level.toFixed(3)}.`));
    if (regions?.length) line.append(element("small", "", `Activation mostly in: ${regions.join(", ")}.`));
    line.type = "button";
    line.setAttribute("aria-pressed", name === state.finding);
    line.addEventListener("click", () => { state.finding = name; draw(); });
    return line;
  };
  const gradeLines = ({ grade }) => {
    const box = element("div", "line", element("span", "verdict yes", grades[grade.grade]));
    grade.p.forEach((p, k) => {
      const calibrated = grade.calibrated[k];
      const sure = calibrated === null || calibrated === undefined ? "" : `; calibrated ${number(calibrated)}`;
      box.append(meter(p, 0.5), element("small", "", `Above ${grades[k].toLowerCase()}: ${number(p)}${sure}`));
    });
    if (grade.stage1 !== null) box.append(element("small", "", `The first stage said ${grades[grade.stage1].toLowerCase()}.`));
    return [box];
  };

  const draw = () => {
    const photo = shown[state.place];
    const layers = [];
    if (photo.photograph) layers.push(baseOf(photo).picture);
    if (layerOf(photo, state.finding)) layers.push(picture(layerOf(photo, state.finding), "heat", `Map of ${state.finding ?? "the mask"}`));
    if (photo.layers.regions) layers.push(picture(photo.layers.regions, "regions", "Regions, optic disc and fovea"));
    canvas.replaceChildren(...layers);

    const bar = element("div", "bar", button("←", "Previous", () => step(-1)), button("→", "Next", () => step(1)),
      button("−", "Smaller", () => zoom(1 / 1.5)), button("+", "Larger", () => zoom(1.5)),
      button("1:1", "A pixel for a pixel", () => whole()), button("Close", "Close", () => viewer.close()));
    const about = element("p", "soft", [who(photo), photo.path].filter(Boolean).join(" · "));
    panel.replaceChildren(bar, element("p", "soft", `${state.place + 1} of ${shown.length}`), element("h2", "", photo.id), about);
    if (photo.photograph) panel.append(element("p", "soft", baseOf(photo).size));
    panel.append(...(graded ? gradeLines(photo) : findings.map((each) => lineOf(each, photo))));
    if (layerOf(photo, state.finding)) {
      const range = Object.assign(element("input"), { type: "range", min: 0, max: 100, value: state.fade });
      range.addEventListener("input", () => { state.fade = Number(range.value); fade(); });
      panel.append(element("label", "", "Map", range), document.getElementById("legend").content.cloneNode(true));
    }
    if (photo.layers.regions) {
      const box = Object.assign(element("input"), { type: "checkbox", checked: state.regions });
      box.addEventListener("input", () => { state.regions = box.checked; fade(); });
      panel.append(element("label", "", box, "Regions, optic disc (yellow), fovea (blue)"));
    }
    for (const flag of photo.flags) panel.append(element("p", "", element("span", "flag", flag.replaceAll("_", " ")), ` ${flags[flag] ?? ""}.`));
    panel.append(element("p", "soft", element("kbd", "", "←"), " ", element("kbd", "", "→"), " photographs, ", element("kbd", "", "m"),
      " map, ", element("kbd", "", "r"), " regions, ", element("kbd", "", "+"), " ", element("kbd", "", "−"), " ", element("kbd", "", "0"), " ", element("kbd", "", "1"), " size"));
    fit();
    fade();
  };
  const KEYS = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(0), 1: () => whole(),
    m: () => { state.fade = state.fade ? 0 : 100; draw(); }, r: () => { state.regions = !state.regions; draw(); },
  };
  // On the document: redrawing the panel takes the focus from whatever was clicked in it.
  document.addEventListener("keydown", (event) => {
    const action = viewer.open && KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range") return;
    event.preventDefault();
    action();
  });
  viewer.addEventListener("close", () => grid.children[state.place]?.focus());
  addEventListener("resize", fit);

  // --- a sheet of paper a patient
  const sheets = document.getElementById("sheets");
  const eyeOf = (photo) => {
    const present = findings.filter(({ name }) => photo.findings[name].present).map(({ name }) => name);
    const mapped = (graded ? [undefined] : present.length ? present : [leading(photo)]).filter((name) => layerOf(photo, name));
    const titled = (box, title) => element("figure", "", box, element("figcaption", "", title));
    const plain = located ? layered(photo, "", "photograph")
      : element("span", "photo", ...(photo.photograph ? [picture(photo.photograph, "", photo.id)] : []));
    const pictures = element("div", "pictures", titled(plain, "photograph"), ...mapped.map((name) =>
      titled(layered(photo, name, "photograph"), graded ? "mask" : `${byName.get(name).title}: ${number(photo.findings[name].p)}`)));
    pictures.style.setProperty("--columns", Math.min(4, Math.max(2, mapped.length + 1)));
    const head = element("p", "", element("strong", "", [photo.id, photo.eye && `${photo.eye} eye`].filter(Boolean).join(", ")), ` — ${verdict(photo)}`);
    const rows = graded
      ? photo.grade.p.map((p, k) => [`Above ${grades[k].toLowerCase()}`, number(p), "0.500", p > 0.5 ? "yes" : "no", ""])
      : findings.map(({ name, title, level }) => {
        const { p, present, regions } = photo.findings[name];
        return [title, number(p), level.toFixed(3), present ? "present" : "absent", (regions ?? []).join(", ")];
      });
    const where = rows.some((row) => row[4]);
    const titles = [graded ? "Grade" : located ? "Point" : "Finding", "Probability", "Counts from", "Prediction", ...(where ? ["Where"] : [])];
    const table = element("table", "", element("thead", "", element("tr", "", ...titles.map((title) => element("th", "", title)))),
      element("tbody", "", ...rows.map((row) => element("tr", "", ...row.slice(0, titles.length).map((cell) => element("td", "", cell))))));
    const map = mapped.length && !graded ? "Maps show the activation from 0 (transparent) to 1; the line is the operating point." : "";
    const flagged = unusual(photo).map((flag) => `${flag.replaceAll("_", " ")}: ${flags[flag]}`).join("; ");
    return element("div", "eye", head, pictures, element("p", "soft", map), table,
      ...(flagged ? [element("p", "", `Flags: ${flagged}.`)] : []));
  };
  const lay = () => {
    const patients = Map.groupBy ? Map.groupBy(shown, (photo) => photo.patient ?? photo.id)
      : shown.reduce((found, photo) => found.set(photo.patient ?? photo.id, [...(found.get(photo.patient ?? photo.id) ?? []), photo]), new Map());
    sheets.replaceChildren(...[...patients].map(([name, photos]) => element("section", "sheet",
      element("header", "", element("h2", "", photos[0].patient ? `Patient ${name}` : name), element("span", "", sheets.dataset.record)),
      ...photos.sort((a, b) => compare(b.eye ?? "", a.eye ?? "")).map(eyeOf), element("p", "", "For research, not for diagnosis."))));
    return Promise.all([...sheets.querySelectorAll("img")].map((image) => image.decode().catch(() => {})));
  };
  const isFew = () => shown.length <= 200 || confirm(`Print all ${shown.length} photographs? The filters leave fewer.`);
  print.addEventListener("click", () => isFew() && lay().then(() => window.print()));
  addEventListener("afterprint", () => sheets.replaceChildren());

  update();
  if (location.hash === "#print") lay();
})();
