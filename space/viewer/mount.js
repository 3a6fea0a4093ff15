/** The viewer in an answer of the page in space/: its slices come with the answer; the curve and the table show them, too. */

import { viewer } from './viewer.js';

const SVG = 'http://www.w3.org/2000/svg';

/** Make a viewer of an element that has its slices in `data-slices`, and of its card's curve and table. */
export function mount(place) {
  const { slices, texts, start } = JSON.parse(place.dataset.slices);
  const card = place.closest('.bm-card'), curve = card.querySelector('.bm-curve');
  const rows = [...card.querySelectorAll('.bm-slices tbody tr')];
  const marks = [(i) => markRow(rows, i), ...(curve ? [lineOn(curve, slices.length)] : [])];
  const made = viewer(slices.map(described), texts, start, (i) => marks.forEach((mark) => mark(i)));
  const jump = (i) => {
    made.show(i);
    made.firstChild.scrollIntoView({ block: 'nearest' }); // the picture
  };
  rows.forEach((row, i) => {
    const picture = row.querySelector('img');
    if (slices[i].picture) picture.src = slices[i].picture;
    row.addEventListener('click', () => jump(i));
  });
  curve?.addEventListener('click', (event) => jump(nearest(curve, slices.length, event.clientX)));
  place.replaceChildren(made);
  delete place.dataset.slices;
}

function described({ picture, map, ...rest }) {
  return { ...rest, pixels: () => pixelsOf(picture), map: map && { ...map, values: numbers(map.values) } };
}

async function pixelsOf(address) {
  if (!address) return new ImageData(1, 1); // refused by its header: never decoded
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
  [canvas.width, canvas.height] = [image.width, image.height];
  pen.drawImage(image, 0, 0);
  return pen.getImageData(0, 0, image.width, image.height);
}

/** 16-bit numbers, the lower byte first, as base64. */
function numbers(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => view.getInt16(2 * i, true));
}

function markRow(rows, i) {
  rows.forEach((row, k) => (k === i ? row.setAttribute('aria-current', 'true') : row.removeAttribute('aria-current')));
}

const edges = ({ dataset }) => [Number(dataset.left), Number(dataset.right)];

/** A line on the curve at the slice that is shown. */
function lineOn(curve, count) {
  const line = document.createElementNS(SVG, 'line');
  line.setAttribute('class', 'bm-now');
  curve.append(line);
  return (i) => {
    const [left, right] = edges(curve);
    const x = left + (right - left) * (count > 1 ? i / (count - 1) : 0.5);
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: curve.dataset.top, y2: curve.dataset.bottom })) line.setAttribute(name, value);
  };
}

function nearest(curve, count, across) {
  const box = curve.getBoundingClientRect(), [left, right] = edges(curve);
  const x = ((across - box.left) / box.width) * curve.viewBox.baseVal.width;
  return Math.min(Math.max(Math.round(((x - left) / (right - left)) * (count - 1)), 0), count - 1);
}
