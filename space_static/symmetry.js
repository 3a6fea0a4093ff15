/** How unlike the two sides of the head are in what the model sees there: brain_mri/inference/symmetry.py. */

/** Pixel values, channels x size x size, mirrored left to right. */
export function mirrored(pixels, size) {
  return pixels.map((_, i) => pixels[i - (i % size) + size - 1 - (i % size)]);
}

/** The mean difference of the evidence at a place and at its mirror image; tensors (1, k, h, w), of both pictures. */
export function asymmetry(evidence, ofMirrored) {
  const width = evidence.dims[3];
  const mirror = (i) => i - (i % width) + width - 1 - (i % width);
  const map = (i) => (evidence.data[i] + ofMirrored.data[mirror(i)]) / 2;
  let sum = 0;
  for (let i = 0; i < evidence.data.length; ++i) sum += Math.abs(map(i) - map(mirror(i)));
  return sum / evidence.data.length;
}
