/** What the page says, from `texts/`, the same files as the Gradio page's. */

const LANGUAGES = ['en', 'de'];

/** A function from a key and its values to a text, in the visitor's language. */
export async function loadTexts() {
  const wanted = new URLSearchParams(location.search).get('lang') ?? navigator.language.slice(0, 2);
  const language = LANGUAGES.includes(wanted) ? wanted : LANGUAGES[0];
  const all = await Promise.all(LANGUAGES.map(async (code) => (await fetch(`texts/${code}.json`)).json()));
  const known = all[LANGUAGES.indexOf(language)];
  const texts = (key, values = {}) => filled(known[key], values);
  const number = (text) => (language === 'en' ? text : text.replace('.', ',').replace('%', '\u00a0%'));
  return Object.assign(texts, {
    language,
    number,
    of: (key) => known[key],
    label: (label) => known.labels[label] ?? label,
    percent: (share, digits) => number(percent(share, digits)),
    links: () => LANGUAGES.map((code, i) => link(code, all[i].language, code === language)),
  });
}

export const filled = (text, values) => text.replace(/\{(\w+)\}/g, (gap, name) => (name in values ? values[name] : gap));

/** Never rounded to certainty. */
function percent(share, digits = 1) {
  const shown = (100 * share).toFixed(digits), least = 10 ** -digits;
  if (share < 1 && Number(shown) === 100) return `> ${100 - least}%`;
  return share > 0 && Number(shown) === 0 ? `< ${least}%` : `${shown}%`;
}

function link(code, name, here) {
  const element = document.createElement(here ? 'span' : 'a');
  if (!here) Object.assign(element, { href: `?lang=${code}`, hreflang: code });
  element.lang = code;
  element.textContent = name;
  return element;
}
