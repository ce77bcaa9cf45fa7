// A service behind Portcullis that believes nobody but the gateway, for Node, without packages.
//
// The gateway tells who calls in the header X-Portcullis-Identity, in one of two forms:
//
//   identity = "file:identity.secret"     a MAC:  IDENTITY_SECRET_FILE=identity.secret node service.mjs 9000
//   identity = { jwt = {} }               a JWT:  JWKS_URL=http://127.0.0.1:9901/.well-known/jwks.json \
//                                                 AUDIENCE=task-service node service.mjs 9000
//
// With identity = { jwt = { bind = "request" } } set IDENTITY_BIND=request, too.
import { createHmac, createPublicKey, timingSafeEqual, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const json = (text) => JSON.parse(Buffer.from(text, "base64url").toString());
const refuse = (why) => {
  throw new Error(why);
};

/** Who calls, when the header of version 2 proves it for this request. */
export function verifyMac(value, secret, here) {
  const [version, text, mac, more] = value.split(".");
  if (version !== "v2" || mac === undefined || more !== undefined) refuse("no identity of version 2");
  const expected = createHmac("sha256", secret).update(`portcullis-identity-v2.${text}`).digest();
  const given = Buffer.from(mac, "base64url");
  // Nothing of the JSON is read before this has been found right.
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) refuse("not signed by the gateway");
  const facts = json(text);
  if (!(Math.abs(Date.now() / 1000 - facts.iat) <= 60)) refuse("too old, or from the future");
  for (const name of ["method", "path", "query"]) {
    if (facts[name] !== here[name]) refuse("signed for another request");
  }
  return facts;
}

/** The gateway's public keys: fetched when one is unknown, at most every ten seconds. */
export class Keys {
  constructor(url) {
    Object.assign(this, { url, keys: new Map(), fetched: -Infinity });
  }

  async find(kid) {
    const age = performance.now() - this.fetched;
    if (age > 300_000 || (!this.keys.has(kid) && age > 10_000)) {
      const answer = await fetch(this.url, { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) refuse(`the keys cannot be fetched: ${answer.status}`);
      const { keys } = await answer.json();
      this.keys = new Map(keys.map((jwk) => [jwk.kid, jwk]));
      this.fetched = performance.now();
    }
    return this.keys.get(kid) ?? refuse("signed with an unknown key");
  }
}

/** Who calls, when the JWT proves it. */
export async function verifyToken(value, keys, { audience, issuer, bound }, here) {
  const [head, body, signature, more] = value.split(".");
  if (signature === undefined || more !== undefined) refuse("no token");
  const { alg, kid, typ } = json(head);
  if (typ !== "portcullis-identity+jwt") refuse("a token of another kind");
  const jwk = await keys.find(kid);
  // The key says how it signs; what the token says must be the same and decides nothing.
  if (alg !== jwk.alg || !["EdDSA", "ES256"].includes(jwk.alg)) refuse("another algorithm");
  const key = { key: createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" };
  const hash = jwk.alg === "EdDSA" ? null : "sha256";
  const signed = Buffer.from(`${head}.${body}`);
  if (!verify(hash, signed, key, Buffer.from(signature, "base64url"))) refuse("not signed by the gateway");
  const claims = json(body);
  const now = Date.now() / 1000;
  if (claims.iss !== issuer || claims.aud !== audience) refuse("for somebody else");
  if (!(claims.iat <= now + 5 && now < claims.exp + 5)) refuse("ended, or from the future");
  for (const name of bound ? ["method", "path", "query"] : []) {
    if (claims[name] !== here[name]) refuse("signed for another request");
  }
  return claims;
}

const { IDENTITY_SECRET_FILE, JWKS_URL, AUDIENCE, ISSUER = "portcullis", IDENTITY_BIND } = process.env;
const secret = IDENTITY_SECRET_FILE && readFileSync(IDENTITY_SECRET_FILE, "latin1").replace(/\r?\n$/, "");
const keys = new Keys(JWKS_URL);
const terms = { audience: AUDIENCE, issuer: ISSUER, bound: IDENTITY_BIND === "request" };

createServer(async (request, response) => {
  let status = 200;
  let body;
  try {
    const [path, ...rest] = request.url.split("?");
    const here = { method: request.method, path, query: rest.join("?") };
    // Node joins several values with a comma, which stands in no identity.
    const value = request.headers["x-portcullis-identity"] ?? refuse("an identity is needed");
    const caller = secret
      ? verifyMac(value, Buffer.from(secret, "latin1"), here)
      : await verifyToken(value, keys, terms, here);
    body = { sub: caller.sub ?? null, roles: caller.roles };
  } catch (fault) {
    // Whatever is wrong with an identity, it proves nothing.
    console.error("refused:", fault.message);
    [status, body] = [401, { error: "unauthorized" }];
  }
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}).listen(Number(process.argv[2]), "127.0.0.1");
