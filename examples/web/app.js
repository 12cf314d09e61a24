// The seven steps of JWT authentication. Text from outside is only ever set as textContent.
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

// A page of your own would import code that protoc-gen-es generates from the protos.
const { service: baseUrl, audience } = await (await fetch("/config.json")).json();
const descriptors = new Uint8Array(await (await fetch("/descriptors.binpb")).arrayBuffer());
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
const service = registry.getService("identityapi.v1.IdentityService");
const reasons = registry.getEnum("identityapi.v1.RejectionReason");
const identity = createClient(service, createGrpcWebTransport({ baseUrl }));

let accessToken = ""; // in memory only, as is the refresh token
let refreshToken = "";

const MEANINGS = {
  alg: "the algorithm of the signature",
  typ: "an access token (RFC 9068)",
  kid: "the key that signed it; its public half is published",
  iss: "the service that issued it",
  sub: "the user whom it speaks for",
  aud: "the services that may accept it",
  exp: "when it expires",
  iat: "when it was issued",
  jti: "its own id, by which it can be revoked",
  client_id: "the program that asked for it",
  scope: "what it allows",
  sid: "the session, which a refresh continues",
  auth_time: "when the password was checked",
  gen: "revokes all earlier tokens of a principal when raised",
};
const TIMES = new Set(["exp", "iat", "nbf", "auth_time"]);

const element = (id) => document.getElementById(id);

function make(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function show(step, ...parts) {
  const item = element(`step-${step}`);
  item.classList.add("done");
  item.querySelector("div").replaceChildren(...parts);
}

function say(text, isBad = false) {
  element("status").textContent = text;
  element("status").className = isBad ? "bad" : "";
}

function decoded(part) {
  const base64 = part.replaceAll("-", "+").replaceAll("_", "/");
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))));
}

function table(title, className, fields) {
  const made = document.createElement("table");
  made.append(make("caption", title, className));
  for (const [name, value] of Object.entries(fields)) {
    const row = made.insertRow();
    row.append(make("th", name));
    const text = TIMES.has(name) ? `${value} (${new Date(value * 1000).toISOString()})` : JSON.stringify(value);
    row.append(make("td", text), make("td", MEANINGS[name] ?? ""));
  }
  return made;
}

function showToken() {
  const [header, payload, signature] = accessToken.split(".");
  const text = make("p", "", "text");
  text.append(make("span", header, "header"), ".", make("span", payload, "payload"), ".", make("span", signature, "signature"));
  show(3, text, table("Header", "header", decoded(header)), table("Payload", "payload", decoded(payload)),
    table("Signature", "signature", { signature }),
    make("p", "Made with the private key over header and payload: a changed letter breaks it, and only the service can make one."));
}

function take(set) {
  accessToken = set.accessToken;
  refreshToken = set.refreshToken;
  showToken();
  show(4, make("p", `Authorization: Bearer ${accessToken.slice(0, 24)}…`, "text"));
  for (const id of ["verify", "refresh", "revoke"]) element(id).disabled = false;
}

// Runs one step, and shows why it was refused.
async function attempt(step, action) {
  try {
    await action();
  } catch (error) {
    const { code, rawMessage, cause } = ConnectError.from(error);
    // A browser does not tell a page whether the service is away, or answers no page of this origin.
    const text = cause instanceof TypeError
      ? `No answer of ${baseUrl}: is it running, with IDENTITY_WEB_ORIGINS=${location.origin}?`
      : `${Code[code]}: ${rawMessage}`;
    say(text, true);
    show(step, make("p", text, "bad"));
  }
}

const bearer = () => ({ headers: { Authorization: `Bearer ${accessToken}` } });

async function verify(step) {
  const { outcome } = await identity.verify({ token: accessToken, audiences: [audience] }, bearer());
  if (outcome.case === "verified") {
    say("Verified.");
    show(step, make("p", `verified: ${outcome.value.subject}, scopes ${outcome.value.scopes.join(" ") || "none"}`, "text"));
    return;
  }
  const reason = reasons.value[outcome.value.reason].name.replace("REJECTION_REASON_", "");
  say(`Refused: ${reason}`, true);
  show(step, make("p", `refused: ${reason}`, "text bad"));
}

element("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const [username, password] = [element("username").value, element("password").value];
  element("password").value = "";
  attempt(1, async () => {
    const credential = { kind: { case: "password", value: { username, password } } };
    const { tokenSet } = await identity.issue({ credential, audiences: [audience] });
    say(`Signed in as ${username}.`);
    show(1, make("p", `Issue: ${username}`, "text"));
    const expiry = new Date(Number(tokenSet.expireTime.seconds) * 1000).toISOString();
    show(2, make("p", `an access token until ${expiry}, and a refresh token`, "text"));
    take(tokenSet);
  });
});

element("verify").addEventListener("click", () => attempt(5, () => verify(5)));

element("refresh").addEventListener("click", () =>
  attempt(6, async () => {
    const { tokenSet } = await identity.refresh({ refreshToken });
    say("Refreshed.");
    show(6, make("p", `a new access token, ${tokenSet.tokenId}, of the same session`, "text"));
    take(tokenSet);
  }),
);

element("revoke").addEventListener("click", () =>
  attempt(7, async () => {
    await identity.revoke({ target: { case: "token", value: refreshToken } }, bearer());
    await verify(7);
  }),
);

document.documentElement.dataset.ready = "true";
