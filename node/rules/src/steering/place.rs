//! Points on the Earth and the distance between them.

/// Mean radius of the Earth, in kilometres.
const EARTH_KM: f64 = 6371.0;

/// A place on the Earth as a unit vector: a distance is then one dot product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    x: f64,
    y: f64,
    z: f64,
}

impl Point {
    /// The place at `latitude` degrees north and `longitude` degrees east; none if they are not on the Earth.
    #[must_use]
    pub fn from_degrees(latitude: f64, longitude: f64) -> Option<Self> {
        if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
            return None;
        }
        let (north, east) = (latitude.to_radians(), longitude.to_radians());
        Some(Self { x: north.cos() * east.cos(), y: north.cos() * east.sin(), z: north.sin() })
    }

    /// Degrees north and east.
    #[must_use]
    pub fn degrees(self) -> [f64; 2] {
        [self.z.clamp(-1.0, 1.0).asin().to_degrees(), self.y.atan2(self.x).to_degrees()]
    }

    /// Great-circle distance in whole kilometres, 0 to 20015.
    #[must_use]
    pub fn kilometres(self, other: Self) -> u16 {
        let dot = self.x * other.x + self.y * other.y + self.z * other.z;
        let kilometres = dot.clamp(-1.0, 1.0).acos() * EARTH_KM;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 20016")]
        let whole = kilometres.round() as u16;
        whole
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn distances_are_great_circles() {
        let at = |n, e| Point::from_degrees(n, e).unwrap();
        let (berlin, dublin, sydney) = (at(52.52, 13.41), at(53.35, -6.26), at(-33.87, 151.21));
        assert!((1310..=1325).contains(&berlin.kilometres(dublin)));
        assert!((16050..=16110).contains(&berlin.kilometres(sydney)));
        assert_eq!(berlin.kilometres(berlin), 0);
        let [north, east] = sydney.degrees();
        assert!((north + 33.87).abs() < 1e-9 && (east - 151.21).abs() < 1e-9);
        assert_eq!(at(90.0, 0.0).kilometres(at(-90.0, 77.0)), 20015);
    }

    #[test]
    fn what_is_not_on_the_earth_is_no_point() {
        for (n, e) in [(90.1, 0.0), (0.0, 180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert_eq!(Point::from_degrees(n, e), None);
        }
    }
}
