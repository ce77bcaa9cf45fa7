// Lists tasks and makes one with an API key. Needs BASE_URL, CA_FILE and API_KEY.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';

const { BASE_URL, CA_FILE, API_KEY } = process.env;
const ca = readFileSync(CA_FILE);

function call(method, path, body) {
  const headers = { Authorization: `Bearer ${API_KEY}` };
  const data = body === undefined ? '' : JSON.stringify(body);
  if (data) Object.assign(headers, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(data) });
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
console.log(JSON.stringify(await call('POST', '/v1/tasks', { title: 'From JavaScript' })));
