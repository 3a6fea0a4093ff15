/** Keeps the page's own files, so that it works offline. `files.json` and the version in it change with each publication. */

const STORE = 'brain-mri-';

async function listed() {
  const response = await fetch('files.json', { cache: 'no-store' });
  return response.json();
}

addEventListener('install', (event) => {
  event.waitUntil((async () => {
    const { version, files } = await listed();
    const store = await caches.open(STORE + version);
    await store.addAll(files);
    await skipWaiting();
  })());
});

addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    const stores = (await caches.keys()).filter((name) => name.startsWith(STORE)).sort();
    const newest = await listed().then(({ version }) => STORE + version, () => stores.at(-1));
    await Promise.all(stores.filter((name) => name !== newest).map((name) => caches.delete(name)));
    await clients.claim();
  })());
});

addEventListener('fetch', (event) => {
  if (event.request.method !== 'GET' || new URL(event.request.url).origin !== location.origin) return;
  event.respondWith((async () => {
    const kept = await caches.match(event.request, { ignoreSearch: true });
    return kept ?? fetch(event.request);
  })());
});
