/**
 * A photograph that can be zoomed and moved: wheel, pinch, drag, keys. Reports taps in pixels of the photograph
 * (integers at their centres) and lets the page drag handles on it.
 */

const SLOP = { mouse: 4, pen: 6, touch: 9 };
const MAX_SCALE = 24;
/** Smaller than the window, to reach a point beyond the edge of the photograph. */
const SMALLEST = 0.5;

export class View {
  scale = 1;
  x = 0;
  y = 0;
  #stage;
  #img;
  #on;
  #size = [1, 1];
  #source = null;
  #pointers = new Map();
  #gesture = null;
  #fitted = true;

  /**
   * on: moved() after every change of position; tap(point); hover(point or null); grab(x, y, pointer) → null, or
   * { drag(point), drop(), cancel() } of the handle there.
   */
  constructor(stage, img, on) {
    this.#stage = stage;
    this.#img = img;
    this.#on = on;
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", (event) => this.#up(event, true));
    stage.addEventListener("lostpointercapture", (event) => this.#pointers.has(event.pointerId) && this.#up(event, true));
    stage.addEventListener("pointerleave", () => this.#on.hover?.(null));
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.#place())).observe(stage);
  }

  /** Show a photograph of `width` × `height` pixels: `screen` first (awaited), `full` when zoomed beyond it. */
  async show({ width, height, screen, full }) {
    const source = { full, loading: false };
    this.#source = source;
    const loaded = await decoded(screen);
    if (this.#source !== source) return false;
    this.#size = [width, height];
    source.width = loaded.naturalWidth;
    this.#img.src = screen;
    this.#img.width = width;
    this.#img.height = height;
    this.fit();
    return true;
  }

  fit() {
    this.scale = this.#fitScale();
    const { clientWidth, clientHeight } = this.#stage;
    this.x = (clientWidth - this.#size[0] * this.scale) / 2;
    this.y = (clientHeight - this.#size[1] * this.scale) / 2;
    this.#fitted = true;
    this.#place();
  }

  /** Zoom by a factor about a point of the stage; about its centre also to less than the window. */
  zoom(factor, x = null, y = null) {
    if (x === null) {
      this.#zoom(factor, SMALLEST * this.#fitScale(), this.#stage.clientWidth / 2, this.#stage.clientHeight / 2);
    } else this.#zoom(factor, Math.min(this.scale, this.#fitScale()), x, y);
  }

  #zoom(factor, smallest, x, y) {
    const fitted = this.#fitScale();
    const scale = Math.min(Math.max(this.scale * factor, smallest), Math.max(MAX_SCALE, fitted));
    // On the way it stops where the photograph fits.
    if ((this.scale - fitted) * (scale - fitted) < 0 || Math.abs(scale / fitted - 1) < 0.001) {
      this.fit();
      return;
    }
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#fitted = false;
    this.#place();
  }

  pan(dx, dy) {
    if (this.#fitted) return;
    this.x += dx;
    this.y += dy;
    this.#place();
  }

  /** Move the photograph until a point of it is visible. */
  reveal(point) {
    const margin = 40;
    const [x, y] = this.toStage(point);
    const missing = (at, room) => Math.min(0, room - margin - at) + Math.max(0, margin - at);
    this.pan(missing(x, this.#stage.clientWidth), missing(y, this.#stage.clientHeight));
  }

  /** Show the same part of the photograph as another view of the same size. */
  follow({ scale, x, y }) {
    Object.assign(this, { scale, x, y });
    this.#fitted = Math.abs(scale / this.#fitScale() - 1) < 0.001;
    this.#place(false);
  }

  /** Width and height of the photograph. */
  get size() {
    return this.#size;
  }

  get magnification() {
    return this.scale / this.#fitScale();
  }

  toStage([px, py]) {
    return [(px + 0.5) * this.scale + this.x, (py + 0.5) * this.scale + this.y];
  }

  toPixel(x, y) {
    return [(x - this.x) / this.scale - 0.5, (y - this.y) / this.scale - 0.5];
  }

  holds([px, py]) {
    return px >= -0.5 && py >= -0.5 && px < this.#size[0] - 0.5 && py < this.#size[1] - 0.5;
  }

  #fitScale() {
    const [width, height] = this.#size;
    return Math.max(1e-3, Math.min(this.#stage.clientWidth / width, this.#stage.clientHeight / height));
  }

  #place(notify = true) {
    // The photograph can be moved, but not out of the window.
    const [width, height] = this.#size.map((length) => length * this.scale);
    this.x = within(this.x, this.#stage.clientWidth, width);
    this.y = within(this.y, this.#stage.clientHeight, height);
    this.#img.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.#sharpen();
    if (notify) this.#on.moved?.();
  }

  async #sharpen() {
    const source = this.#source;
    const wanted = this.#size[0] * this.scale * devicePixelRatio;
    if (!source?.width || source.loading || !source.full || source.width >= this.#size[0]) return;
    if (wanted <= source.width * 1.1) return;
    source.loading = true;
    try {
      const full = await decoded(source.full);
      if (this.#source !== source) return;
      source.width = full.naturalWidth;
      this.#img.src = source.full;
    } catch {
      // Keep the current picture; the next zoom tries again.
      source.loading = false;
    }
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const delta = Math.max(-120, Math.min(120, event.deltaY * lines));
    const [x, y] = this.#at(event);
    // Browsers report a trackpad pinch as a wheel event with ctrl, in small steps.
    this.zoom(Math.exp(-delta * (event.ctrlKey ? 0.012 : 0.0022)), x, y);
  }

  #down(event) {
    if (event.button !== 0 && event.button !== 1) return;
    this.#stage.setPointerCapture(event.pointerId);
    const at = this.#at(event);
    this.#pointers.set(event.pointerId, at);
    if (this.#pointers.size === 1) {
      const held = event.button === 0 ? this.#on.grab?.(...at, event.pointerType) : null;
      this.#gesture = { start: at, last: at, held, moved: event.button === 1, slop: SLOP[event.pointerType] ?? 4 };
    } else if (this.#gesture) {
      // A second finger turns the gesture into a pinch.
      if (this.#gesture.moved) this.#gesture.held?.cancel();
      this.#gesture = { ...this.#gesture, held: null, moved: true, pinch: this.#pinch() };
    }
  }

  #move(event) {
    const at = this.#at(event);
    const gesture = this.#gesture;
    if (!this.#pointers.has(event.pointerId) || !gesture) {
      if (event.pointerType !== "touch") this.#on.hover?.(this.toPixel(...at));
      return;
    }
    this.#pointers.set(event.pointerId, at);
    if (gesture.pinch) {
      const now = this.#pinch();
      if (!now) return;
      this.zoom(now.length / gesture.pinch.length, ...now.middle);
      this.pan(now.middle[0] - gesture.pinch.middle[0], now.middle[1] - gesture.pinch.middle[1]);
      gesture.pinch = now;
      return;
    }
    if (!gesture.moved && Math.hypot(at[0] - gesture.start[0], at[1] - gesture.start[1]) < gesture.slop) return;
    gesture.moved = true;
    if (gesture.held) gesture.held.drag(this.toPixel(...at));
    else this.pan(at[0] - gesture.last[0], at[1] - gesture.last[1]);
    gesture.last = at;
  }

  #up(event, cancelled = false) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const gesture = this.#gesture;
    if (this.#pointers.size) return;
    this.#gesture = null;
    if (!gesture) return;
    if (cancelled) {
      if (gesture.moved) gesture.held?.cancel();
    } else if (gesture.moved) gesture.held?.drop();
    else this.#on.tap?.(this.toPixel(...gesture.start));
  }

  #pinch() {
    const [one, other] = [...this.#pointers.values()];
    if (!other) return null;
    return {
      length: Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1])),
      middle: [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2],
    };
  }

  #at(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }
}

/** Load and decode a picture, so that it can be shown at once. */
export async function decoded(url) {
  const img = new Image();
  img.src = url;
  await img.decode();
  return img;
}

/** Start of a length within a space: centred if it fits, otherwise without a gap at either side. */
function within(start, room, length) {
  if (length <= room) return (room - length) / 2;
  return Math.min(0, Math.max(room - length, start));
}
