// What the system says about proxies, in words.
import { el } from "./dom.js";
import { get } from "./api.js";
import { t } from "./texts.js";

// found asks the helper: {settings, suggestion, in_use}.
export const found = () => get("v1/found");

// where says in whose settings something stands, and where there.
export function where({ source, name }) {
  const whose = t(`found.source.${source}`);
  return name ? t("found.where", { source: whose, name }) : whose;
}

// notes say what of the system's settings cannot be used, and what to do.
export function notes(settings) {
  return settings.flatMap((s) => {
    const all = [];
    if (s.pac) all.push(t("found.pac", { where: where(s), url: s.pac }));
    else if (s.auto_detect) all.push(t("found.auto", { where: where(s) }));
    if (s.off) all.push(t("found.off", { where: where(s) }));
    const items = all.map((text) => el("li", { className: "note", textContent: text }));
    if (s.problem) items.push(el("li", { className: "note" }, t("found.problem", { where: where(s) }), " ", el("span", { lang: "en", textContent: s.problem })));
    return items;
  });
}
