/** What may be said of a slice, and of the slices of one patient together: brain_mri/inference/rule.py. */

export const HEALTHY = 'no_tumor';

export class Rule {
  /** @param {object} calibration what calibration.json holds */
  constructor(calibration) {
    this.calibration = calibration;
    this.threshold = number(calibration.referral?.threshold);
    const { all_clear: chosen, referral } = calibration;
    const symmetric = chosen !== undefined && 'symmetry' in chosen;
    this.mostAsymmetry = symmetric ? number(chosen.symmetry?.asymmetry) : Infinity;
    const healthy = symmetric ? [chosen.symmetry?.threshold] : [referral.healthy_threshold ?? 0, chosen === undefined ? 0 : chosen.threshold];
    this.allClear = Math.max(this.threshold, ...healthy.map(number));
  }

  /** Whether the verdict depends on how unlike both sides are: only "no tumour" does, and only once a limit was chosen. */
  needsAsymmetry(probabilities) {
    return this.mostAsymmetry < Infinity && first(probabilities) === HEALTHY && this.#sureEnough(probabilities, [0]).verdict === 'answer';
  }

  /**
   * `{verdict, reason}` of one slice; `stripped` says whether it looks like a brain without its skull, `asymmetry` how
   * unlike both sides are, where the verdict depends on it.
   */
  ofSlice(probabilities, guardScore, stripped, asymmetry) {
    if (!(guardScore <= 1)) return refused(stripped() ? 'skull_stripped' : 'not_brain_mri'); // no number is refused too
    const found = this.#sureEnough(probabilities, [asymmetry]);
    const allClear = found.verdict === 'answer' && first(probabilities) === HEALTHY;
    return allClear && stripped() ? refused('skull_stripped') : found;
  }

  /** `{verdict, reason, probabilities}` of the slices of one patient; "no tumour" never outvotes a tumour. */
  ofVolume(slices) {
    const accepted = slices.filter((one) => one.verdict !== 'refused');
    if (!accepted.length) return { ...refused(onlyReason(slices)), probabilities: {} };
    const labels = Object.keys(accepted[0].probabilities);
    const mean = (label) => accepted.reduce((sum, one) => sum + one.probabilities[label], 0) / accepted.length;
    const probabilities = Object.fromEntries(labels.map((label) => [label, mean(label)]));
    return { ...this.#together(slices, accepted, probabilities), probabilities };
  }

  #together(slices, accepted, probabilities) {
    if (2 * accepted.length < slices.length) {
      const stripped = slices.filter((one) => one.reason === 'skull_stripped').length;
      return refused(2 * stripped > slices.length ? 'skull_stripped' : 'most_slices_refused');
    }
    const healthy = first(probabilities) === HEALTHY;
    if (healthy && !accepted.every((one) => first(one.probabilities) === HEALTHY)) return unsure('slices_disagree');
    if (healthy && accepted.length < slices.length) return unsure('slices_not_judged');
    return this.#sureEnough(probabilities, accepted.map((one) => one.asymmetry));
  }

  #sureEnough(probabilities, asymmetries) {
    const label = first(probabilities);
    const healthy = label === HEALTHY;
    const symmetric = !healthy || this.mostAsymmetry === Infinity || asymmetries.every((one) => Number.isFinite(one) && one <= this.mostAsymmetry);
    const sure = probabilities[label] >= (healthy ? this.allClear : this.threshold) && symmetric;
    return sure ? { verdict: 'answer', reason: null } : unsure('below_threshold');
  }
}

/** Why all slices were refused, where that is one thing beside their being no brain MRI. */
function onlyReason(slices) {
  const reasons = new Set(slices.map((one) => one.reason));
  reasons.delete('not_brain_mri');
  return reasons.size === 1 ? [...reasons][0] : 'no_slice_accepted';
}

const refused = (reason) => ({ verdict: 'refused', reason });
const unsure = (reason) => ({ verdict: 'unsure', reason });

/** The most probable label. */
export function first(probabilities) {
  return Object.keys(probabilities).reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a));
}

/** The most probable of the classes that are no healthy brain, whatever the verdict; where none is named, it is not. */
export function suspect(probabilities) {
  const { [HEALTHY]: healthy, ...tumours } = probabilities;
  return first(Object.keys(tumours).length ? tumours : probabilities);
}

function number(value) {
  if (!(Number.isFinite(value) && value >= 0)) throw new Error('calibration.json is broken');
  return value;
}
