// Mixes the references by their weights (a reference of no weight is not sampled), and darkens an open mouth that
// none of them shows. A reference's fourth channel says where the person is; elsewhere the plate shows as far as it is
// trusted.

uniform sampler2DArray u_references;
uniform sampler2D u_plate;  // RGB, trust
uniform vec2 u_plate_scale, u_plate_offset;  // from pixels of the drawn picture
uniform vec3 u_cavity;  // sRGB, 0 to 1

in float v_cavity;
in vec4 v_weight_0, v_weight_1;
in vec4 v_uv_01, v_uv_23, v_uv_45, v_uv_67;

out vec4 f_colour;

// Where a reference ends, it goes on as its own mirror image, ever slower: a strip of wall or cloth looks right
// where a streak does not, and no mirrored head comes in from above.
const float STRIP = 0.05;  // of the picture

vec2 within(vec2 uv) {
    vec2 under = max(-uv, 0.0), over = max(uv - 1.0, 0.0);
    return clamp(uv, 0.0, 1.0) + STRIP * under / (STRIP + under) - STRIP * over / (STRIP + over);
}

const float SOLID = 0.998;  // where so much is person, nothing shows through

// A head is not continued beyond the border, only the background is; clothes are, at the bottom and low at the sides.
const float EDGE = 0.01;  // of the picture
const vec2 CLOTHES = vec2(0.7, 0.85);  // how far down they begin

float beyond(vec2 uv) {
    float side = max(-uv.x, uv.x - 1.0) * (1.0 - smoothstep(CLOTHES.x, CLOTHES.y, uv.y));
    return smoothstep(0.0, EDGE, max(side, -uv.y));
}

// A reference that ends before a place says little there where another one goes on.
const float LITTLE = 0.002;

float within_reach(vec2 uv) {
    vec2 out_by = max(-uv, uv - 1.0);
    return max(1.0 - smoothstep(-EDGE, 0.0, max(out_by.x, out_by.y)), LITTLE);
}

// Sums over the references: weights, all that they show, the person in it, and of that what is not to be continued.
float total = 0.0;
vec3 whole = vec3(0.0);
vec4 person = vec4(0.0), cut = vec4(0.0);

void paint(float weight, vec2 uv, float layer) {
    if (weight <= 0.0) return;
    bool outside = uv != clamp(uv, 0.0, 1.0);
    weight *= within_reach(uv);
    total += weight;
    vec4 texel = textureLod(u_references, vec3(outside ? within(uv) : uv, layer), 0.0);
    vec4 there = weight * texel.a * vec4(texel.rgb, 1.0);
    whole += weight * texel.rgb;
    person += there;
    if (outside) cut += beyond(uv) * there;
}

void main() {
    paint(v_weight_0.x, v_uv_01.xy, 0.0);
    paint(v_weight_0.y, v_uv_01.zw, 1.0);
    paint(v_weight_0.z, v_uv_23.xy, 2.0);
    paint(v_weight_0.w, v_uv_23.zw, 3.0);
    paint(v_weight_1.x, v_uv_45.xy, 4.0);
    paint(v_weight_1.y, v_uv_45.zw, 5.0);
    paint(v_weight_1.z, v_uv_67.xy, 6.0);
    paint(v_weight_1.w, v_uv_67.zw, 7.0);
    total = max(total, 0.000001);
    vec3 colour = whole / total;
    if (person.a - cut.a < SOLID * total) {
        vec4 plate = textureLod(u_plate, within(gl_FragCoord.xy * u_plate_scale + u_plate_offset), 0.0);
        vec4 shown = mix(vec4(whole, total), person, plate.a) - cut;
        colour = (shown.rgb + (total - shown.a) * plate.rgb) / total;
    }
    f_colour = vec4(mix(colour, u_cavity, v_cavity), 1.0);
}
