// Strokes to pixels, by the same rule as the server (spml/app/strokes.py): a line covers the pixels of a thin digital
// line and those whose centres lie within width / 2 of it. A map holds one byte a pixel: 0 nothing, else class + 1.

const EPSILON = 1e-9;

/** A paint map and the window of it that changed since the last `clean`. */
export class Paint {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.map = new Uint8Array(width * height);
    this.clean();
  }

  clean() {
    this.left = this.top = Infinity;
    this.right = this.bottom = -1;
  }

  clear() {
    this.map.fill(0);
    [this.left, this.top, this.right, this.bottom] = [0, 0, this.width - 1, this.height - 1];
  }

  /** Pixels of row y whose centres lie in [low, high]. */
  row(y, low, high, value) {
    const from = Math.max(0, Math.ceil(low - 0.5 - EPSILON));
    const to = Math.min(this.width - 1, Math.floor(high - 0.5 + EPSILON));
    if (y < 0 || y >= this.height || to < from) return;
    this.map.fill(value, y * this.width + from, y * this.width + to + 1);
    this.left = Math.min(this.left, from);
    this.right = Math.max(this.right, to);
    this.top = Math.min(this.top, y);
    this.bottom = Math.max(this.bottom, y);
  }

  /** A line one pixel wide between the pixels under a and b; halves are rounded up. */
  thin(a, b, value) {
    const [x, y] = a.map(Math.floor);
    const [dx, dy] = [Math.floor(b[0]) - x, Math.floor(b[1]) - y];
    const count = Math.max(Math.abs(dx), Math.abs(dy));
    const half = Math.max(1, count);
    for (let k = 0; k <= count; k += 1) {
      const column = x + Math.floor((2 * k * dx + half) / (2 * half));
      this.row(y + Math.floor((2 * k * dy + half) / (2 * half)), column + 0.5, column + 0.5, value);
    }
  }

  /** The line from a to b with round ends: convex, so each row of pixels is covered in one run. */
  segment(a, b, width, value) {
    this.thin(a, b, value);
    if (width <= 1) return;
    const radius = width / 2;
    const first = Math.floor(Math.min(a[1], b[1]) - radius - 0.5);
    const last = Math.ceil(Math.max(a[1], b[1]) + radius);
    for (let y = Math.max(0, first); y <= Math.min(this.height - 1, last); y += 1) {
      const [low, high] = run(a, b, radius, y + 0.5);
      if (low <= high) this.row(y, low, high, value);
    }
  }

  /** Inside by the even-odd rule. */
  polygon(points, value) {
    for (let y = 0; y < this.height; y += 1) {
      const centre = y + 0.5;
      const crossings = [];
      for (let i = 0; i < points.length; i += 1) {
        const [ax, ay] = points[i];
        const [bx, by] = points[(i + 1) % points.length];
        if (ay <= centre !== by <= centre) crossings.push(ax + ((centre - ay) / (by - ay)) * (bx - ax));
      }
      crossings.sort((one, other) => one - other);
      for (let i = 0; i + 1 < crossings.length; i += 2) this.row(y, crossings[i], crossings[i + 1], value);
    }
  }

  /** One whole stroke. `scale`: pixels of this map in one pixel of the image. A box is no paint. */
  stroke(stroke, value, scale) {
    const points = stroke.points.map(([x, y]) => [x * scale, y * scale]);
    const width = scaledWidth(stroke.width, scale);
    if (stroke.kind === "box" || !points.length) return;
    if (stroke.kind === "polygon") {
      if (stroke.filled) this.polygon(points, value);
      points.push(points[0]);
    }
    if (points.length === 1) this.segment(points[0], points[0], width, value);
    for (let i = 1; i < points.length; i += 1) this.segment(points[i - 1], points[i], width, value);
  }
}

/** On a photograph that is drawn smaller than it is, a line never gets thinner than a pixel. */
export const scaledWidth = (width, scale) => (scale === 1 ? width : Math.max(1, width * scale));

/** [low, high] of x on the height y that lies within `radius` of the segment a-b; low > high where none does. */
function run(a, b, radius, y) {
  let [low, high] = [Infinity, -Infinity];
  for (const [x, top] of [a, b]) {
    const rest = radius * radius - (y - top) ** 2;
    if (rest < 0) continue;
    low = Math.min(low, x - Math.sqrt(rest));
    high = Math.max(high, x + Math.sqrt(rest));
  }
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const square = dx * dx + dy * dy;
  if (square === 0) return [low, high];
  const along = between(dx, (y - a[1]) * dy, 0, square);
  const reach = radius * Math.sqrt(square);
  const beside = between(dy, -(y - a[1]) * dx, -reach, reach);
  const from = a[0] + Math.max(along[0], beside[0]);
  const to = a[0] + Math.min(along[1], beside[1]);
  return from <= to ? [Math.min(low, from), Math.max(high, to)] : [low, high];
}

/** The x with low <= slope x + offset <= high. */
function between(slope, offset, low, high) {
  if (slope === 0) return offset >= low && offset <= high ? [-Infinity, Infinity] : [Infinity, -Infinity];
  const ends = [(low - offset) / slope, (high - offset) / slope];
  return slope > 0 ? ends : ends.reverse();
}
