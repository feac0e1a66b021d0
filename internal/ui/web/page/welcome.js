// The welcome of a first start: which proxy, whose ticket, does it work. It is
// shown in place of the pages, and never again.
import { get, post } from "./api.js";
import { $, el, remembered, setText } from "./dom.js";
import { found, notes, where } from "./found.js";
import { onStatus, refresh, status } from "./live.js";
import { attempt, explain, onClick } from "./notice.js";
import { ask } from "./signin.js";
import { origin } from "./source.js";
import { isUsable, testOf } from "./status.js";
import { onLanguage, t } from "./texts.js";

let shown = false;
let done; // called at the end
let last = { settings: [] }; // what was found
let touched = false; // the person has chosen

const setting = () => status()?.settings.upstream ?? {};
const chosen = () => document.querySelector("#welcome-choices input:checked")?.value ?? "";
const split = (text) => text.split(/[\s,]+/).filter(Boolean);

// wanted is what the person has chosen or typed.
const wanted = () => split(chosen() || $("welcome-upstream").value);

// offers are the proxies to choose from: the one in use first, then what the
// system knows, each once.
function offers() {
  const all = new Map();
  const { value = [], ...from } = setting();
  for (const s of last.settings) if (s.upstreams?.length > 0) all.set(s.upstreams.join(", "), where(s));
  const now = value.join(", ");
  if (now && !all.has(now)) all.set(now, origin(from));
  return [...all];
}

function choice(value, text, about) {
  const input = el("input", { type: "radio", name: "welcome-proxy", value });
  input.addEventListener("change", () => {
    touched = true;
    drawOther();
    if (!value) $("welcome-upstream").focus();
  });
  return el("li", {}, el("label", {}, input, el("span", {}, el("strong", { textContent: text }), ...(about ? [el("span", { className: "quiet", textContent: about })] : []))));
}

function drawOther() {
  $("welcome-other").hidden = setting().locked || ($("welcome-choices").children.length > 0 && chosen() !== "");
}

// listChoices leaves them alone while they stay as they are: somebody may be
// about to click one.
const listChoices = remembered((all, other) => {
  const items = all.map(([value, about]) => choice(value, value, about));
  if (items.length > 0) items.push(choice("", other, ""));
  $("welcome-choices").replaceChildren(...items);
});

function drawChoices() {
  const all = offers(), before = chosen(), now = (setting().value ?? []).join(", ");
  $("welcome-locked").hidden = !setting().locked;
  setText($("welcome-locked"), setting().locked ? `${now} – ${origin(setting())}` : "");
  $("welcome-choices").hidden = Boolean(setting().locked);
  if (document.activeElement?.name !== "welcome-proxy") {
    listChoices(all, t("welcome.other"));
    const radios = [...document.querySelectorAll("#welcome-choices input")];
    const pick = (touched && radios.find((r) => r.value === before)) || radios.find((r) => r.value && (r.value === now || !now && r.value === last.suggestion)) || radios[0];
    if (pick) pick.checked = true;
  }
  setText($("welcome-found"), setting().locked ? "" : t(all.length > 0 ? "welcome.found" : "welcome.none"));
  $("welcome-notes").replaceChildren(...notes(last.settings));
  drawOther();
}

function drawTicket({ ticket }) {
  const usable = isUsable(ticket);
  $("welcome-ticket").className = `state ${usable ? "good" : "warn"}`;
  setText($("welcome-ticket-state"), usable ? t("welcome.signed_in", { name: ticket.principal }) : t(`ticket.${ticket.state}`));
  $("welcome-sign-in").hidden = usable;
}

// save keeps the choice, if it differs from what is in use. A refusal is shown
// at its field.
async function save() {
  const value = wanted(), { value: now = [], locked } = setting();
  $("welcome-error").replaceChildren();
  $("welcome-upstream").removeAttribute("aria-invalid");
  if (locked || value.join() === now.join()) return true;
  try {
    await post("v1/settings", { key: "upstream", value });
    await refresh();
    return true;
  } catch (error) {
    $("welcome-upstream").setAttribute("aria-invalid", "true");
    $("welcome-error").replaceChildren(...explain(error));
    if (!$("welcome-other").hidden) $("welcome-upstream").focus();
    return false;
  }
}

async function test() {
  const result = $("welcome-result");
  result.className = "state";
  setText($("welcome-result-text"), "");
  if (wanted().length === 0 && !setting().locked) {
    $("welcome-error").replaceChildren(...explain({ message: t("welcome.choose") }));
    $("welcome-upstream").focus();
    return;
  }
  if (!await save()) return;
  setText($("welcome-result-text"), t("test.running"));
  try {
    const { good, text } = await testOf();
    result.className = `state ${good ? "good" : "bad"}`;
    setText($("welcome-result-text"), text);
  } catch (error) {
    setText($("welcome-result-text"), "");
    throw error;
  }
}

async function drawAutostart() {
  const { enabled, by } = await get("v1/autostart");
  $("welcome-autostart").checked = enabled;
  $("welcome-autostart").disabled = by === "admin";
}

async function end() {
  await post("v1/welcome");
  shown = false;
  $("welcome").hidden = true;
  $("tabs").hidden = false;
  done();
  scrollTo(0, 0);
  $("tab-status").focus({ preventScroll: true });
}

async function look() {
  last = await found();
  if (shown) drawChoices();
}

// show puts the welcome in place of the pages if the helper wants it, and
// calls after at its end. It reports whether it did.
export async function show(after) {
  const { wanted: isWanted } = await get("v1/welcome");
  if (!isWanted) return false;
  done = after;
  shown = true;
  $("tabs").hidden = true;
  $("welcome").hidden = false;
  look().catch(() => {}); // the field to type into is there
  drawAutostart().catch(() => {});
  return true;
}

export function start() {
  onStatus((s) => {
    if (!shown) return;
    drawChoices();
    drawTicket(s);
  });
  onLanguage(() => { if (shown && status()) drawChoices(); });
  $("welcome-sign-in").addEventListener("click", ask);
  onClick($("welcome-test"), test);
  $("welcome-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt($("welcome-done"), async () => {
      if (await save()) await end();
    });
  });
  onClick($("welcome-skip"), end);
  $("welcome-autostart").addEventListener("change", () => attempt($("welcome-autostart"), async () => {
    try {
      await post("v1/autostart", { enabled: $("welcome-autostart").checked });
    } finally {
      await drawAutostart();
    }
  }));
}
