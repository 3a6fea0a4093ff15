/** The few functions of numpy that are needed. */

/** Percentile with linear interpolation; null of nothing. */
export function percentile(values, percent) {
  if (!values.length) return null;
  const place = (percent / 100) * (values.length - 1);
  const below = Math.floor(place);
  const ranked = values instanceof Uint8ClampedArray ? rankedBytes(values) : rankedNumbers(values);
  const [low, high] = [below, Math.min(below + 1, values.length - 1)].map(ranked);
  return low + (high - low) * (place - below);
}

function rankedNumbers(values) {
  const sorted = Float64Array.from(values).sort();
  return (rank) => sorted[rank];
}

/** By counting, which takes a tenth of the time that sorting does. */
function rankedBytes(values) {
  const counts = new Uint32Array(256);
  for (const value of values) ++counts[value];
  return (rank) => {
    let value = 0;
    for (let seen = counts[0]; seen <= rank; seen += counts[++value]);
    return value;
  };
}

export const median = (values) => percentile(values, 50);

/** Probabilities of logits, in double precision. */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - most));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}
