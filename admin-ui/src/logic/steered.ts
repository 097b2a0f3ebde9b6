import type { Steering } from "../api/client";

type Region = Steering["regions"][number];

/** What is known of a client's place, as one line. */
export function from(steering: Steering): string {
  const place = steering.location;
  const parts = [
    place?.country,
    place?.latitude != null && place.longitude != null ? `${place.latitude}, ${place.longitude}` : undefined,
    place?.accuracy_km != null ? `within ${place.accuracy_km} km` : undefined,
    place?.asn != null ? `AS${place.asn}` : undefined,
  ];
  return parts.filter((part) => part != null).join("; ") || "not known";
}

/** What is estimated and wished of a region, where there is something to say. */
export function wished(region: Region): string[] {
  const parts = [
    region.estimated_ms != null ? `about ${region.estimated_ms} ms` : undefined,
    region.measured_ms != null ? `${region.measured_ms} ms measured (${region.samples} times)` : undefined,
    region.share != null ? `${Math.round(region.share * 100)} % of such clients` : undefined,
    region.weight != null ? `weight ${region.weight}` : undefined,
    region.bias_percent ? `bias ${region.bias_percent} %` : undefined,
    region.priority ? `priority ${region.priority}` : undefined,
  ];
  return parts.filter((part) => part !== undefined);
}
