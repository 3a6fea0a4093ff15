// What happens in the browser alone: files are chosen, dropped, pasted or taken from the examples and wait here until
// the button sends them; the evidence layer's strength; the page's language for screen readers. No other server is called.
window.brainMRI = (() => {
  const languages = LANGUAGES;
  const last = location.pathname.replace(/\/$/, "").split("/").pop();
  document.documentElement.lang = languages.includes(last) ? last : languages[0];
  let chosen = [];
  let seen = null;
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

  const choose = (files) => {
    chosen = Array.from(files);
    const shown = chosen.slice(0, 6).map(line);
    if (chosen.length > 6) shown.push(Object.assign(document.createElement("li"), { textContent: `+ ${chosen.length - 6}` }));
    one(".bm-chosen ul").replaceChildren(...shown);
    one(".bm-chosen").hidden = !chosen.length;
  };

  const say = (text) => {
    const place = one(".bm-answer .bm-waiting");
    if (place) place.textContent = text;
  };

  // What the button's listener on the server is given: where the server has put the files, or why it has not.
  const send = async () => {
    const told = one(".bm-upload").dataset;
    if (!chosen.length) return [[]];
    say(told.uploading);
    const form = new FormData();
    chosen.forEach((file) => form.append("files", file, file.name));
    const { root, api_prefix } = window.gradio_config;
    const response = await fetch(`${root}${api_prefix}/upload`, { method: "POST", body: form }).catch(() => null);
    if (!response?.ok) return [{ problem: response?.status === 413 ? told.tooLarge : told.failed }];
    const paths = await response.json();
    const meta = { _type: "gradio.FileData" };
    return [paths.map((path, i) => ({ path, orig_name: chosen[i].name, meta }))];
  };

  document.addEventListener("change", (event) => {
    if (event.target.matches(".bm-drop input") && event.target.files.length) {
      choose(event.target.files);
      event.target.value = ""; // so that the same file can be chosen again
    }
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest(".bm-clear")) {
      choose([]);
      one(".bm-drop input").focus();
    }
    const example = event.target.closest(".bm-example");
    if (!example) return;
    const [head, content] = example.dataset.file.split(",");
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    choose([new File([bytes], example.dataset.name, { type: head.slice(5).split(";")[0] })]);
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
    const answer = one(".bm-answer");
    if (answer && !answer.hasAttribute("aria-live")) answer.setAttribute("aria-live", "polite");
    const title = one(".bm-answer h2");
    if (title && title !== seen && title.getBoundingClientRect().bottom > innerHeight) answer.scrollIntoView(); // phones
    seen = title;
  }).observe(document.documentElement, { childList: true, subtree: true });

  return { send };
})();
