// What the pipelines of this directory know about versions.
export const version = "1.4.2";

export type Part = "major" | "minor" | "patch";

/** The version after `version`. */
export const next = (part: Part): string => {
  const [major, minor, patch] = version.split(".").map(Number);
  if (part === "major") return `${major + 1}.0.0`;
  if (part === "minor") return `${major}.${minor + 1}.0`;
  return `${major}.${minor}.${patch + 1}`;
};
