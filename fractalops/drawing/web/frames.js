// The frames: the image of the whole picture's border under each map, drawn over the picture.

const MANY = 48; // with more maps than this, only the chosen map has a frame
const NEAR = 16; // largest distance of a pointer that grabs a dot or a handle, in CSS pixels
const ARM = 30; // least distance from the center of a frame to its handle, in CSS pixels
const FAR = 1e6; // frames with larger coordinates, in CSS pixels, are not drawn
const ACCENT = "124 192 242";
const CHOSEN = "#ffc46b";

class Frames {
  /** `home` is the { width, height } of the whole picture. `toScreen` converts a point of the plane to CSS pixels. */
  constructor(canvas, home, toScreen) {
    Object.assign(this, { canvas, home, toScreen, pen: canvas.getContext("2d") });
    this.pivot = [home.width / 2, home.height / 2];
  }

  corners(map) {
    const { width, height } = this.home;
    return [[0, 0], [width, 0], [width, height], [0, height]].map((corner) => this.toScreen(apply(map, corner)));
  }

  middle(map) {
    return this.toScreen(apply(map, this.pivot));
  }

  /** Return the position of a frame's handle: the image of the picture's lower right corner, or a point farther out. */
  handle(map) {
    const [x, y] = this.middle(map);
    const [toX, toY] = this.corners(map)[2];
    const length = Math.hypot(toX - x, toY - y);
    const factor = length > 0 ? Math.max(1, ARM / length) : 0;
    return [x + (toX - x) * factor, y + (toY - y) * factor];
  }

  draw(maps, chosen, density) {
    const { canvas, pen } = this;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (maps === null) return;
    pen.scale(density, density);
    pen.setLineDash([4, 5]);
    this.outline([IDENTITY], "rgb(255 255 255 / .35)", 1);
    pen.setLineDash([]);
    if (maps.length <= MANY) {
      const others = maps.filter((_, n) => n !== chosen);
      const strength = Math.min(Math.max(6 / maps.length, 0.2), 0.7); // many frames must not hide the picture
      this.outline(others, `rgb(0 0 0 / ${strength / 3})`, 3);
      this.outline(others, `rgb(${ACCENT} / ${strength})`, 1);
      for (const map of others) this.dot(this.middle(map), 4, `rgb(${ACCENT})`);
    }
    if (chosen < 0) return;
    const map = maps[chosen];
    this.outline([map], "rgb(0 0 0 / .6)", 5);
    this.outline([map], CHOSEN, 2);
    this.dot(this.middle(map), 5, CHOSEN);
    this.dot(this.handle(map), 8, CHOSEN);
  }

  outline(maps, color, width) {
    const { pen } = this;
    pen.beginPath();
    for (const map of maps) {
      const corners = this.corners(map);
      if (!corners.flat().every((number) => Math.abs(number) < FAR)) continue;
      corners.forEach(([x, y], i) => (i === 0 ? pen.moveTo(x, y) : pen.lineTo(x, y)));
      pen.closePath();
    }
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    pen.stroke();
  }

  dot([x, y], radius, color) {
    const { pen } = this;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fillStyle = color;
    pen.strokeStyle = "rgb(0 0 0 / .7)";
    pen.lineWidth = 2;
    pen.stroke();
    pen.fill();
  }

  /** Return what a pointer at (x, y) grabs: { kind: "turn" | "move", map } or { kind: "pan" }. */
  hit(maps, chosen, x, y) {
    const away = ([toX, toY]) => Math.hypot(toX - x, toY - y);
    if (maps === null) return { kind: "pan" };
    if (chosen >= 0 && away(this.handle(maps[chosen])) <= NEAR) return { kind: "turn", map: chosen };
    if (chosen >= 0 && this.isVisible(this.middle(maps[chosen])) && this.holds(maps[chosen], x, y)) {
      return { kind: "move", map: chosen };
    }
    if (maps.length > MANY) return { kind: "pan" };
    const distances = maps.map((map) => away(this.middle(map)));
    const map = distances.indexOf(Math.min(...distances));
    return distances[map] <= NEAR ? { kind: "move", map } : { kind: "pan" };
  }

  /** Return the index of the smallest frame that contains (x, y), or -1. */
  around(maps, x, y) {
    let found = -1;
    maps.forEach((map, n) => {
      if (this.holds(map, x, y) && (found < 0 || determinant(map) < determinant(maps[found]))) found = n;
    });
    return found;
  }

  isVisible([x, y]) {
    return x >= 0 && y >= 0 && x <= this.canvas.clientWidth && y <= this.canvas.clientHeight;
  }

  holds(map, x, y) {
    const corners = this.corners(map);
    const sides = corners.map(([fromX, fromY], i) => {
      const [toX, toY] = corners[(i + 1) % 4];
      return Math.sign((toX - fromX) * (y - fromY) - (toY - fromY) * (x - fromX));
    });
    return Math.abs(sides.reduce((sum, side) => sum + side, 0)) === 4;
  }
}
