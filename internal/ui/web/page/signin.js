// Signing in: the helper asks, the person answers, as often as it takes.
import { get, post, remove, worded } from "./api.js";
import { $, el } from "./dom.js";
import { refresh, status } from "./live.js";
import { explain, inform } from "./notice.js";
import { known, t } from "./texts.js";

const dialog = $("sign-in-dialog");
let id = ""; // of the sign-in under way
let who = ""; // asked to sign in
let submit; // what the button does now

function showStep({ banner = "", fields = [], button = "", progress = "", error = [] }) {
  $("sign-in-banner").textContent = banner;
  $("sign-in-fields").replaceChildren(...fields);
  $("sign-in-progress").textContent = progress;
  $("sign-in-error").replaceChildren(...error);
  $("sign-in-submit").hidden = !button;
  $("sign-in-submit").textContent = button;
  (fields[0]?.querySelector("input") ?? $(button ? "sign-in-submit" : "sign-in-cancel")).focus();
}

function field(text, props, about = "") {
  const input = el("input", { type: "text", autocomplete: "off", spellcheck: false, maxLength: 1000, ...props });
  return el("label", {}, text, input, ...(about ? [el("span", { className: "quiet", textContent: about })] : []));
}

const inputs = () => [...$("sign-in-fields").querySelectorAll("input")];

function askWho() {
  const account = field(t("login.who"), { value: status()?.ticket.principal ?? "", autocomplete: "username" }, t("login.who.about"));
  showStep({ fields: [account], button: t("continue") });
  submit = () => begin(inputs()[0].value.trim());
}

async function begin(principal) {
  who = principal;
  showStep({ progress: t("login.working") });
  try {
    ({ id } = await post("v1/login", { principal }));
  } catch (error) {
    return fail(error);
  }
  if (!dialog.open) return giveUp(); // closed meanwhile
  await follow(id);
}

// follow asks where the sign-in stands until it waits for the person or ends.
async function follow(mine) {
  try {
    for (;;) {
      const now = await get(`v1/login/${mine}`);
      if (mine !== id) return;
      if (now.state === "asking") return show(now);
      if (now.state === "failed") return fail(worded(now));
      if (now.state === "done") return done();
    }
  } catch (error) {
    if (mine === id) fail(error);
  }
}

function show({ banner, questions }) {
  const fields = questions.map((q) =>
    field(known(`login.${q.kind}`, q.text), q.hidden ? { type: "password", autocomplete: q.kind === "password" ? "current-password" : "new-password" } : {}));
  showStep({ banner: [who, banner].filter(Boolean).join("\n"), fields, button: t("continue") });
  submit = answer;
}

async function answer() {
  const mine = id, answers = inputs().map((i) => i.value);
  showStep({ progress: t("login.working") });
  try {
    await post(`v1/login/${mine}`, { answers });
  } catch (error) {
    if (mine === id) fail(error);
    return;
  }
  await follow(mine);
}

function fail(error) {
  giveUp();
  showStep({ error: explain(error), button: t("login.again") });
  submit = askWho;
}

async function done() {
  id = "";
  dialog.close();
  inform(t("login.done"));
  await refresh();
}

// giveUp ends a sign-in that is under way. That it had ended is no news.
function giveUp() {
  if (!id) return;
  remove(`v1/login/${id}`).catch(() => {});
  id = "";
}

// ask opens the dialog.
export function ask() {
  dialog.showModal();
  askWho();
}

// leave closes it with what was typed: nobody is there to answer to.
export const leave = () => dialog.close();

export function start() {
  $("sign-in").addEventListener("click", ask);
  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("sign-in-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    $("sign-in-fields").replaceChildren(); // with what was typed
    giveUp();
  });
}
