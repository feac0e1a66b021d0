// The General page: one control per setting.
import { get, post } from "./api.js";
import { $, el, setText } from "./dom.js";
import { onStatus, refresh } from "./live.js";
import { attempt } from "./notice.js";
import { lockable } from "./source.js";
import { onPage } from "./tabs.js";
import { duration, load, onLanguage, t } from "./texts.js";

const controls = [...document.querySelectorAll("[data-setting]")];

const valueOf = (control) => (control.type === "checkbox" ? control.checked : control.value);

function draw(control, setting) {
  lockable(control, setting);
  if (control.type === "checkbox") {
    control.checked = setting.value;
    return;
  }
  if (![...control.options].some((o) => o.value === setting.value)) control.append(el("option", { value: setting.value, textContent: timeOf(setting.value) }));
  control.value = setting.value;
}

async function save(control) {
  try {
    await post("v1/settings", { key: control.dataset.setting, value: valueOf(control) });
    if (control.id === "language") await load();
  } finally {
    await refresh(); // shows what holds, also after a refusal
  }
}

// timeOf words a duration of the settings file, such as "1h30m".
function timeOf(text) {
  const parts = text.match(/^(?:(\d+)h)?(?:(\d+)m)?(?:0s)?$/);
  return parts && (parts[1] || parts[2]) ? duration((Number(parts[1] ?? 0) * 60 + Number(parts[2] ?? 0)) * 60000) : text;
}

async function drawAutostart() {
  const control = $("autostart"), { enabled, by, detail } = await get("v1/autostart");
  control.checked = enabled;
  control.disabled = by === "admin";
  setText($("autostart-detail"), [by === "admin" ? t("source.policy") : "", detail ?? ""].filter(Boolean).join(" "));
}

// followAutostart asks each time that the page is shown: start at login may be
// changed elsewhere too, in the desktop's own settings.
function followAutostart(page) {
  if (page === "general") drawAutostart().catch(() => {}); // stays as it was
}

export function start() {
  onStatus((s) => {
    for (const c of controls) {
      const setting = s.settings[c.dataset.setting];
      if (setting) draw(c, setting);
    }
    setText($("version"), s.version);
    setText($("backend"), s.ticket.backend || t("general.backend.none"));
    setText($("config"), s.config);
  });
  for (const c of controls) c.addEventListener("change", () => attempt(c, () => save(c)));
  $("autostart").addEventListener("change", () => attempt($("autostart"), async () => {
    try {
      await post("v1/autostart", { enabled: $("autostart").checked });
    } finally {
      await drawAutostart();
    }
  }));
  onLanguage(() => {
    for (const o of $("remind-before").options) o.textContent = timeOf(o.value);
  });
  onPage(followAutostart);
}
