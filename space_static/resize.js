/** Pillow's resampling, value for value: the network was trained on pictures that were resized like that. */

const BITS = 22; // Pillow's fixed-point weights

const FILTERS = {
  bicubic: { support: 2, weight: cubic },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
};

/**
 * A grey or colour picture at another size.
 *
 * @param {{data: Uint8ClampedArray, width: number, height: number, channels: number}} picture rows of pixels
 * @param {number} width
 * @param {number} height
 * @param {'bicubic'|'bilinear'} filter
 * @param {number[]} [box] left, top, right, bottom in whole pixels: the part to be shown; default: all of it
 */
export function resize(picture, width, height, filter, box = [0, 0, picture.width, picture.height]) {
  const { channels } = picture;
  const across = stretch(picture, width, box[0], box[2], picture.height, channels, picture.width * channels, filter, channels);
  const wide = { data: across, width, height: picture.height };
  const data = stretch(wide, height, box[1], box[3], width, width * channels, channels, filter, channels);
  return { data, width, height, channels };
}

/** One axis: its pixels lie `step` values apart, each of the `lines` across it `stride` apart. */
function stretch({ data, width, height }, newSize, from, to, lines, step, stride, filter, channels) {
  const along = step === channels; // the horizontal pass
  const size = along ? width : height;
  if (size === newSize && from === 0 && to === size) return data;
  const [newStep, newStride] = along ? [channels, newSize * channels] : [step, stride];
  const result = new Uint8ClampedArray(newSize * lines * channels);
  const { support, weight } = FILTERS[filter];
  const scale = (to - from) / newSize;
  const spread = Math.max(scale, 1); // a smaller picture averages, or it would skip pixels
  for (let out = 0; out < newSize; ++out) {
    const centre = from + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * spread + 0.5));
    const last = Math.min(size, Math.trunc(centre + support * spread + 0.5));
    const weights = [];
    for (let i = first; i < last; ++i) weights.push(weight((i - centre + 0.5) / spread));
    const total = weights.reduce((a, b) => a + b);
    const whole = weights.map((one) => Math.round((one / total) * 2 ** BITS));
    for (let line = 0; line < lines; ++line) {
      for (let channel = 0; channel < channels; ++channel) {
        let sum = 0;
        let place = first * step + line * stride + channel;
        for (let i = 0; i < whole.length; ++i, place += step) sum += whole[i] * data[place];
        result[out * newStep + line * newStride + channel] = Math.floor(sum / 2 ** BITS + 0.5);
      }
    }
  }
  return result;
}

function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/** A colour picture as grey, as Pillow's `convert("L")`; a grey one as it is. */
export function grey({ data, width, height, channels }) {
  if (channels === 1) return { data, width, height, channels };
  const values = new Uint8ClampedArray(width * height);
  for (let i = 0; i < values.length; ++i) {
    values[i] = (data[3 * i] * 19595 + data[3 * i + 1] * 38470 + data[3 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return { data: values, width, height, channels: 1 };
}
