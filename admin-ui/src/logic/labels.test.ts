import { expect, test } from "vitest";

import { placeLabels } from "./labels";

const map = { width: 400, height: 200 };
const size = { width: 60, height: 20 };

test("a lone label stands to the right of its marker, and inside the map at its edge", () => {
  expect(placeLabels([{ x: 100, y: 100, ...size }], 8, map)[0]?.anchor).toBe("start");
  expect(placeLabels([{ x: 395, y: 100, ...size }], 8, map)[0]?.anchor).toBe("end");
});

test("labels of neighbours do not lie on each other", () => {
  const spots = [
    { x: 200, y: 100, ...size },
    { x: 214, y: 104, ...size },
    { x: 205, y: 120, ...size },
  ];
  const boxes = placeLabels(spots, 8, map).map(({ x, y, anchor }) => {
    const left = { start: x, middle: x - size.width / 2, end: x - size.width }[anchor];
    return { left, right: left + size.width, top: y, bottom: y + size.height };
  });
  boxes.forEach((a, i) =>
    boxes.slice(i + 1).forEach((b) => {
      const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
      expect(apart).toBe(true);
    }),
  );
});
