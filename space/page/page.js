// What happens in the browser alone: files are chosen, dropped, pasted or taken from the examples and wait here until
// the button sends them; the evidence layer's strength; the page's language for screen readers. No other server is called.
window.brainMRI = (() => {
  const languages = LANGUAGES;
  const last = location.pathname.replace(/\/$/, "").split("/").pop();
  document.documentElement.lang = languages.includes(last) ? last : languages[0];
  const spoken = navigator.language.slice(0, 2);
  const isChosen = languages.includes(last) || location.search === `?${languages[0]}`; // as the header's links have it
  if (!isChosen && languages.indexOf(spoken) > 0) location.replace(`./${spoken}${location.search}`); // the Hub's frame has a query
  let chosen = [];
  let truth = ""; // what an example shows, said above its answer
  let seen = null;
  let series = null; // the one to judge of several, for one request
  let running = null; // the request in progress, to be ended
  const tab = crypto.randomUUID?.() ?? String(Math.random()); // not over plain HTTP
  const one = (selector) => document.querySelector(selector);

  const line = (file) => {
    const item = document.createElement("li");
    if (/^image\/(png|jpeg|webp|gif|bmp)$/.test(file.type) && file.size < 2 ** 23) {
      const picture = document.createElement("img");
      picture.alt = "";
      picture.src = URL.createObjectURL(file);
      picture.onload = () => URL.revokeObjectURL(picture.src);
      item.append(picture);
    }
    item.append(file.name);
    return item;
  };

  const choose = (files, known = "") => {
    chosen = Array.from(files);
    truth = known;
    const shown = chosen.slice(0, 6).map(line);
    if (chosen.length > 6) shown.push(Object.assign(document.createElement("li"), { textContent: `+ ${chosen.length - 6}` }));
    one(".bm-chosen ul").replaceChildren(...shown);
    one(".bm-chosen").hidden = !chosen.length;
    const pictures = chosen.length > 1 && chosen.every((file) => /^image\/(png|jpeg|webp|bmp)$/.test(file.type));
    one(".bm-together").hidden = !pictures; // DICOM says itself what belongs together
    one(".bm-together input").checked = !pictures;
    running?.abort();
    one(".bm-answer")?.classList.toggle("bm-stale", chosen.length > 0); // an old answer is not that of a new file
  };

  const message = (text) => {
    const card = Object.assign(document.createElement("section"), { className: "bm-card bm-message" });
    card.setAttribute("role", "alert");
    for (const [kind, said] of [["h2", one(".bm-upload").dataset.error], ["p", text]]) {
      card.append(Object.assign(document.createElement(kind), { textContent: said }));
    }
    return card.outerHTML;
  };

  // What happens is said once; how far it is, of maybe a thousand slices, is for the eye alone.
  const run = (text, count = "") => {
    one(".bm-running").hidden = text === null;
    one(".bm-running [role=status]").textContent = text ?? "";
    one(".bm-count").textContent = count;
  };

  // Lines of JSON as they arrive: how far it is, and at the end the answer.
  const read = async (response, { working, progress }) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return null;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map(JSON.parse)) {
        if (line.html) return line.html;
        run(working, progress.replace("{done}", line.done).replace("{all}", line.all));
      }
    }
  };

  const ask = async (files, signal) => {
    const told = one(".bm-upload").dataset;
    const form = new FormData();
    files.forEach((file) => form.append("files", file, file.name));
    const together = series || files.length < 2 || one(".bm-together input").checked ? 1 : 0;
    const wanted = `&together=${together}${series ? `&series=${series}` : ""}`;
    series = null;
    const address = `${window.gradio_config.root}/answer?language=${document.documentElement.lang}&tab=${tab}${wanted}`;
    run(told.uploading);
    const shown = one(".bm-running").getBoundingClientRect();
    if (shown.top < 0 || shown.bottom > innerHeight) one(".bm-running").scrollIntoView({ block: "center" });
    const response = await fetch(address, { method: "POST", body: form, signal });
    if (response.ok) return (await read(response, told)) ?? message(told.failed);
    return message({ 413: told.tooLarge, 507: told.busy }[response.status] ?? told.failed);
  };

  // The button. First the answer to the last question goes, so that it is not taken for the answer to this one.
  const begin = () => {
    running?.abort();
    one(".bm-answer").classList.remove("bm-stale");
    return nothing();
  };

  const nothing = () => {
    const { waiting } = one(".bm-upload").dataset;
    return Object.assign(document.createElement("p"), { className: "bm-waiting", textContent: waiting }).outerHTML;
  };

  // What this gives takes the answer's place. "Cancel", another press and leaving the page end the request, and with it
  // the work.
  const classify = async () => {
    const mine = (running = new AbortController());
    const known = Object.assign(document.createElement("p"), { className: "bm-truth", textContent: truth }).outerHTML;
    const answer = await ask(chosen, mine.signal).catch(() =>
      mine.signal.aborted ? nothing() : message(one(".bm-upload").dataset.failed),
    );
    if (running === mine) run(null);
    return truth && !mine.signal.aborted ? known + answer : answer;
  };

  // The slice, beside it the slice under its evidence, and below what is said of them: drawn here, as it is seen.
  const sheet = (card, lines) => {
    const size = 640, letters = 24, gap = 12;
    const slice = card.querySelector(".bm-slice"), layer = card.querySelector(".bm-layer");
    const scale = size / Math.max(slice.naturalWidth, slice.naturalHeight);
    const [width, height] = [slice.naturalWidth * scale, slice.naturalHeight * scale].map(Math.round);
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    const font = `${letters}px system-ui, sans-serif`;
    canvas.width = layer ? 2 * width : Math.max(width, size);
    pen.font = font;
    const rows = lines.flatMap((line) => wrapped(line, canvas.width - 2 * gap, pen));
    canvas.height = height + rows.length * letters * 1.4 + 2 * gap; // this forgets the font
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(slice, 0, 0, width, height);
    if (layer) {
      pen.drawImage(slice, width, 0, width, height);
      pen.globalAlpha = Number(getComputedStyle(layer).opacity);
      pen.drawImage(layer, width, 0, width, height);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = "#111827";
    pen.font = font;
    rows.forEach((row, i) => pen.fillText(row, gap, height + gap + letters * (1 + 1.4 * i)));
    return canvas;
  };

  const wrapped = (line, width, pen) => {
    const rows = [""];
    for (const word of line.split(/\s+/)) {
      const longer = `${rows.at(-1)} ${word}`.trim();
      if (pen.measureText(longer).width <= width) rows[rows.length - 1] = longer;
      else rows.push(word);
    }
    return rows.filter(Boolean);
  };

  const save = (link) => {
    sheet(link.closest(".bm-card"), JSON.parse(link.dataset.lines)).toBlob((blob) => {
      const saved = Object.assign(document.createElement("a"), { download: link.download, href: URL.createObjectURL(blob) });
      saved.click();
      setTimeout(() => URL.revokeObjectURL(saved.href), 60_000);
    }, "image/png");
  };

  const fileOf = (address, name) => {
    const [head, content] = address.split(",");
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    return new File([bytes], name, { type: head.slice(5).split(";")[0] });
  };

  const answerOf = async (address, name) => {
    const answer = await ask([fileOf(address, name)]).catch(() => message(one(".bm-upload").dataset.failed));
    run(null);
    return answer;
  };

  // The verdict is heard, and on a phone seen, as soon as it is there; the table of slices is not read out.
  const arrived = (title) => {
    say(one(".bm-answer"));
    const verdict = title.closest(".bm-verdict") ?? title.parentElement; // with what it does not mean, and the notice
    const { top, bottom } = verdict.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) one(".bm-answer").scrollIntoView();
  };

  const say = (answer, before = []) => {
    const verdicts = [...answer.querySelectorAll(".bm-verdict")];
    const told = verdicts.flatMap((one) => [...one.querySelectorAll("h2, h2 + p")]).map(({ textContent }) => textContent.trim());
    one(".bm-spoken").textContent = [...before, ...told].join(" "); // an error is an alert of its own
  };

  const about = async () => {
    const address = `${window.gradio_config.root}/about?language=${document.documentElement.lang}`;
    const response = await fetch(address).catch(() => null);
    return response?.ok ? response.text() : message(one(".bm-upload").dataset.failed);
  };

  document.addEventListener("change", (event) => {
    if (event.target.matches(".bm-drop input") && event.target.files.length) {
      choose(event.target.files);
      event.target.value = ""; // so that the same file can be chosen again
    }
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest(".bm-cancel")) running?.abort();
    if (event.target.closest(".bm-clear")) {
      choose([]);
      one(".bm-drop input").focus();
    }
    const other = event.target.closest(".bm-series button");
    if (other && chosen.length) {
      series = other.value;
      one(".bm-classify").click();
    }
    const picture = event.target.closest(".bm-export");
    if (picture) {
      event.preventDefault();
      save(picture);
    }
    const example = event.target.closest(".bm-example");
    if (!example) return;
    choose([fileOf(example.dataset.file, example.dataset.name)], example.dataset.truth);
    one(".bm-classify").click();
  });

  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) choose(event.clipboardData.files);
  });

  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      one(".bm-drop")?.classList.toggle("bm-over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files);
    });
  }

  document.addEventListener("input", (event) => {
    event.target.closest(".bm-evidence")?.style.setProperty("--opacity", event.target.value);
  });

  new MutationObserver(() => {
    document.querySelectorAll(".bm-origin").forEach((place) => {
      if (place.textContent !== location.origin) place.textContent = location.origin;
    });
    const { title } = one(".bm-header")?.dataset ?? {};
    if (title && document.title !== title) document.title = title; // gradio has one for all languages
    for (const place of document.querySelectorAll(".bm-viewer[data-slices]:not([data-begun])")) {
      place.dataset.begun = "";
      import(`${window.gradio_config.root}/viewer/mount.js`).then(
        ({ mount }) => mount(place),
        () => place.replaceChildren(JSON.parse(place.dataset.slices).texts.failed),
      );
    }
    const first = one(".bm-answer")?.querySelector("h2"); // the quiz has cards of its own
    if (first && first !== seen) arrived(first);
    seen = first;
  }).observe(document.documentElement, { childList: true, subtree: true });

  return { begin, classify, about, answerOf, say };
})();
