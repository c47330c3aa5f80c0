// Where the repository is.
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = resolve(dirname(fileURLToPath(import.meta.url)), "../../../..");

/** The path of a file that is shipped. */
export const shipped = (...parts) => resolve(repository, ...parts);
