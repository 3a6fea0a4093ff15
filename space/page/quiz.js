// "Read it first": the reader names the class of an example and marks the place; then the model's answer and the truth.
window.brainMRIQuiz = (() => {
  const part = (name) => document.querySelector(`.bm-quiz-${name}`);
  let at = 0, right = 0, mark = null, known = false;

  const cases = () => JSON.parse(document.querySelector(".bm-quiz").dataset.cases);
  const said = (name, values = {}) =>
    document.querySelector(".bm-quiz").dataset[name].replace(/\{(\w+)\}/g, (gap, key) => values[key] ?? gap);

  const show = () => {
    const one = cases()[at];
    [mark, known] = [null, false];
    part("picture").src = one.file;
    part("place").replaceChildren(part("picture"));
    part("count").textContent = said("count", { n: at + 1, all: cases().length });
    for (const input of document.querySelectorAll(".bm-quiz input")) input.checked = false;
    part("result").replaceChildren();
    part("check").hidden = false;
    part("next").hidden = true;
  };

  const dot = (kind, box) => {
    const made = Object.assign(document.createElement("span"), { className: `bm-quiz-${kind}` });
    const [x, y, width, height] = box.map((share) => 100 * share);
    Object.assign(made.style, { left: `${x - width / 2}%`, top: `${y - height / 2}%`, width: `${width}%`, height: `${height}%` });
    return made;
  };

  const check = async () => {
    const one = cases()[at], chosen = document.querySelector(".bm-quiz input:checked")?.value;
    if (!chosen || known) return;
    known = true;
    part("check").hidden = true;
    right += chosen === one.label;
    const lines = [said(chosen === one.label ? "right" : "wrong", { label: one.name })];
    if (one.box) {
      part("place").append(dot("box", one.box));
      const [x, y, width, height] = one.box;
      const inside = mark && Math.abs(mark[0] - x) <= width / 2 && Math.abs(mark[1] - y) <= height / 2;
      if (mark) lines.push(said(inside ? "inside" : "outside"));
    }
    part("result").replaceChildren(...lines.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
    const answer = document.createElement("div");
    part("result").append(answer);
    answer.innerHTML = await window.brainMRI.answerOf(one.file, one.file_name); // of our own server, escaped there
    window.brainMRI.say(part("result"), lines);
    part("next").hidden = false;
    part("next").textContent = said(at + 1 < cases().length ? "next" : "again");
    if (at + 1 === cases().length) part("count").textContent = said("score", { n: right, all: cases().length });
    part("next").focus();
  };

  const next = () => {
    at = (at + 1) % cases().length;
    if (!at) right = 0;
    show();
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest(".bm-quiz-check")) check();
    if (event.target.closest(".bm-quiz-next")) next();
    const place = event.target.closest(".bm-quiz-place");
    if (!place || known) return;
    const { left, top, width, height } = place.getBoundingClientRect();
    mark = [(event.clientX - left) / width, (event.clientY - top) / height];
    place.querySelector(".bm-quiz-mark")?.remove();
    place.append(dot("mark", [...mark, 0, 0]));
  });

  return { show };
})();
