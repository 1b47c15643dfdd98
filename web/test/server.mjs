import {createReadStream} from 'node:fs';
import {stat} from 'node:fs/promises';
import {createServer} from 'node:http';
import {extname, join, normalize} from 'node:path';

const TYPES = {
  '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.json': 'application/json',
  '.wasm': 'application/wasm', '.svg': 'image/svg+xml', '.jpg': 'image/jpeg', '.txt': 'text/plain',
};

/**
 * Serve a folder as GitHub Pages would: under a name, with no headers but the type.
 * @param {string} folder
 * @param {Object<string, string>} instead Files to serve in place of others, by their paths in the folder.
 * @returns {Promise<{url: string, requests: string[], close: () => Promise<void>}>}
 */
export async function serve(folder, instead = {}) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const {pathname} = new URL(request.url, 'http://localhost');
    const path = normalize(decodeURIComponent(pathname)).replace(/^\/page/, '').replace(/\/$/, '/index.html');
    requests.push(path);
    const file = instead[path] ?? join(folder, path);
    const found = pathname.startsWith('/page/') && (await stat(file).catch(() => null))?.isFile();
    response.writeHead(found ? 200 : 404, {'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream'});
    found ? createReadStream(file).pipe(response) : response.end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/page/`,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
