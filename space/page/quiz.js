// The quiz: the reader names the class of an example and marks the place; then the model's answer and the truth.
window.brainMRIQuiz = (() => {
  const STEPS = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] };
  const part = (name) => document.querySelector(`.bm-quiz-${name}`);
  let at = 0, right = 0, model = 0, mark = null, known = false;

  const cases = () => JSON.parse(document.querySelector(".bm-quiz").dataset.cases);
  const said = (name, values = {}) =>
    JSON.parse(document.querySelector(".bm-quiz").dataset.texts)[name].replace(/\{(\w+)\}/g, (gap, key) => values[key] ?? gap);

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

  const line = (text) => Object.assign(document.createElement("p"), { textContent: text });

  const aboutMark = (box) => {
    const [x, y, width, height] = box;
    const inside = Math.abs(mark[0] - x) <= width / 2 && Math.abs(mark[1] - y) <= height / 2;
    return said(inside ? "inside" : "outside");
  };

  const check = async () => {
    const one = cases()[at], chosen = document.querySelector(".bm-quiz input:checked")?.value;
    part("hint").textContent = chosen ? "" : said("choose");
    if (!chosen || known) return;
    known = true;
    part("check").hidden = true;
    right += chosen === one.label;
    const lines = [said(chosen === one.label ? "right" : "wrong", { label: one.name })];
    if (one.box) part("place").append(dot("box", one.box));
    if (one.box && mark) lines.push(aboutMark(one.box));
    part("result").replaceChildren(...lines.map(line));
    lines.push((await answered(one)) ?? "");
    window.brainMRI.say(part("result"), lines);
    part("next").hidden = false;
    part("next").textContent = said(at + 1 < cases().length ? "next" : "again");
    if (at + 1 === cases().length) part("count").textContent = said("score", { n: right, model, all: cases().length });
    part("next").focus();
  };

  // The model's answer below the reader's, and first whether it is right.
  const answered = async (one) => {
    const answer = document.createElement("div");
    answer.innerHTML = await window.brainMRI.answerOf(one.file, one.file_name); // of our own server, escaped there
    const named = answer.querySelector("[data-label]")?.dataset.label;
    if (named === undefined) return part("result").append(answer); // a message: nothing was answered
    model += named === one.label;
    const judged = said(!named ? "model_silent" : named === one.label ? "model_right" : "model_wrong");
    part("result").append(line(judged), answer);
    return judged;
  };

  const put = (x, y) => {
    mark = [x, y].map((share) => Math.min(Math.max(share, 0), 1));
    part("place").querySelector(".bm-quiz-mark")?.remove();
    part("place").append(dot("mark", [...mark, 0, 0]));
  };

  const next = () => {
    at = (at + 1) % cases().length;
    if (!at) right = model = 0;
    show();
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest(".bm-quiz-check")) check();
    if (event.target.closest(".bm-quiz-next")) next();
    const place = event.target.closest(".bm-quiz-place");
    if (!place || known) return;
    const { left, top, width, height } = place.getBoundingClientRect();
    put((event.clientX - left) / width, (event.clientY - top) / height);
  });

  document.addEventListener("keydown", (event) => {
    const by = STEPS[event.key];
    if (!by || known || !event.target.matches(".bm-quiz-place")) return;
    event.preventDefault(); // the page stays where it is
    const [x, y] = mark ?? [0.5, 0.5];
    put(x + by[0], y + by[1]);
  });

  return { show };
})();
