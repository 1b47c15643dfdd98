// Keeps all files of the page, so that it works without a connection. web/build.py fills in the version and the files.
// A new version is fetched beside the old one, and takes over when every tab with the old one is closed.
const SCOPE = self.registration.scope; // other pages of the same host have caches of their own
const CACHE = `${SCOPE} VERSION`;
const FILES = ['FILES'];

self.addEventListener('install', (event) => {
  // no-cache: the browser asks the server whether what it has is still right
  const requests = FILES.map((file) => new Request(file, {cache: 'no-cache'}));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

self.addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith(`${SCOPE} `) && name !== CACHE).map((name) => caches.delete(name)));
    await self.clients.claim(); // the first visit too
  })());
});

self.addEventListener('fetch', (event) => {
  if (event.request.method !== 'GET' || !event.request.url.startsWith(SCOPE)) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    return await cache.match(event.request, {ignoreSearch: true, ignoreVary: true}) ?? fetch(event.request);
  })());
});
