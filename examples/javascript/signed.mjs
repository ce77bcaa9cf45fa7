// Lists tasks and makes one with signed requests (RFC 9421). Needs BASE_URL, CA_FILE, KEY_ID and SECRET.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';

const { BASE_URL, CA_FILE, KEY_ID, SECRET } = process.env;
const ca = readFileSync(CA_FILE);
const secret = Buffer.from(SECRET, 'base64');

/** The two headers that sign a request with these headers. */
function signature(method, url, headers) {
  const { host, pathname, search } = new URL(url); // `host` has no default port
  const covered = [['@method', method], ['@authority', host], ['@path', pathname], ['@query', search || '?']];
  for (const [name, value] of Object.entries(headers)) covered.push([name.toLowerCase(), value]);
  const names = covered.map(([name]) => `"${name}"`).join(' ');
  const created = Math.floor(Date.now() / 1000);
  const nonce = randomBytes(16).toString('hex');
  const terms = `(${names});created=${created};nonce="${nonce}";keyid="${KEY_ID}";alg="hmac-sha256"`;
  const lines = [...covered.map(([name, value]) => `"${name}": ${value}`), `"@signature-params": ${terms}`];
  const mac = createHmac('sha256', secret).update(lines.join('\n')).digest('base64');
  return { 'Signature-Input': `sig1=${terms}`, Signature: `sig1=:${mac}:` };
}

function call(method, path, body) {
  const headers = {};
  const data = body === undefined ? '' : JSON.stringify(body);
  if (data) {
    headers['Content-Type'] = 'application/json';
    headers['Content-Digest'] = `sha-256=:${createHash('sha256').update(data).digest('base64')}:`;
  }
  Object.assign(headers, signature(method, BASE_URL + path, headers));
  if (data) headers['Content-Length'] = Buffer.byteLength(data);
  return new Promise((resolve, reject) => {
    const sent = request(BASE_URL + path, { method, headers, ca }, async (response) => {
      let text = '';
      for await (const part of response) text += part;
      if (response.statusCode >= 300) reject(new Error(`${response.statusCode} ${text}`));
      else resolve(JSON.parse(text));
    });
    sent.on('error', reject).end(data);
  });
}

const page = await call('GET', '/v1/tasks?limit=5');
console.log('listed', page.data.length, 'of', page.pagination.total);
console.log(JSON.stringify(await call('POST', '/v1/tasks', { title: 'From a signed JavaScript' })));
