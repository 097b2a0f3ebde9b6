/** Where the names of markers stand on the map: beside their marker, and not on each other as far as that can be. */

export interface Spot {
  x: number;
  y: number;
  /** Size of the label. */
  width: number;
  height: number;
}

export interface Label {
  /** Left end, centre or right end of the text, as `text-anchor` says. */
  x: number;
  /** Upper edge of the label. */
  y: number;
  anchor: "start" | "middle" | "end";
}

interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

type Side = "right" | "left" | "below" | "above";
const SIDES: Side[] = ["right", "left", "below", "above"];

/**
 * Places one label after the other on the side of its marker that overlaps least with markers, with labels placed before
 * it, and with the edge of the map. `gap` is the distance between marker and label, which is also a marker's radius.
 */
export function placeLabels(spots: readonly Spot[], gap: number, map: { width: number; height: number }): Label[] {
  const taken: Box[] = spots.map(({ x, y }) => ({ left: x - gap, right: x + gap, top: y - gap, bottom: y + gap }));
  return spots.map((spot, index) => {
    const costs = SIDES.map((side, order) => {
      const box = boxAt(spot, side, gap);
      const overlap = taken.reduce((sum, other, at) => sum + (at === index ? 0 : common(box, other)), 0);
      return { side, box, cost: overlap + 4 * outside(box, map) + order * 0.01 };
    });
    const best = costs.reduce((a, b) => (b.cost < a.cost ? b : a));
    taken.push(best.box);
    return labelOf(best.side, best.box, spot);
  });
}

function boxAt({ x, y, width, height }: Spot, side: Side, gap: number): Box {
  const away = gap + 3;
  const [left, top] = {
    right: [x + away, y - height / 2],
    left: [x - away - width, y - height / 2],
    below: [x - width / 2, y + away],
    above: [x - width / 2, y - away - height],
  }[side] as [number, number];
  return { left, top, right: left + width, bottom: top + height };
}

function labelOf(side: Side, box: Box, spot: Spot): Label {
  if (side === "right") return { x: box.left, y: box.top, anchor: "start" };
  if (side === "left") return { x: box.right, y: box.top, anchor: "end" };
  return { x: spot.x, y: box.top, anchor: "middle" };
}

function common(a: Box, b: Box): number {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

function outside(box: Box, map: { width: number; height: number }): number {
  const area = (box.right - box.left) * (box.bottom - box.top);
  return area - common(box, { left: 0, top: 0, right: map.width, bottom: map.height });
}
